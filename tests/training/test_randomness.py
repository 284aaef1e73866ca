from __future__ import annotations

from itertools import product

import pytest
import torch

from edgefel.training.randomness import Purpose, derive_seed, generator, repeatable


def test_streams_differ_by_seed_purpose_and_key_and_stay_as_they_were():
    keys = list(product(range(3), Purpose, range(3), range(3)))
    seeds = {derive_seed(seed, purpose, *key) for seed, purpose, *key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # runs of earlier versions are resumed with these numbers
    assert derive_seed(0, Purpose.WEIGHTS) == 7896617691693857887
    assert derive_seed(7, Purpose.LAYERS, 3, 11) == 4237588141059904424
    first, second = (torch.rand(4, generator=generator(1, Purpose.NOISE, 2)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_setting_ends_with_the_training():
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), repeatable(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_cuda_keeps_its_faster_kernels():
    with repeatable(torch.device("cuda")):
        assert not torch.are_deterministic_algorithms_enabled()
