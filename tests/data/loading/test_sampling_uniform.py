"""Epochs from all images alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefel.data.loading.sampling import UniformEpoch
from edgefel.errors import EdgefelError


@given(st.integers(1, 50), st.integers(1, 200), st.integers(0, 5))
def test_every_image_equally_often(count, length, epoch):
    drawn = UniformEpoch(count, length, seed=1).indices(epoch)
    assert len(drawn) == length == len(UniformEpoch(count, length))
    times = np.bincount(drawn, minlength=count)
    assert len(times) == count
    assert times.max() - times.min() <= 1


def test_epochs_differ_and_can_be_drawn_again():
    sampler = UniformEpoch(100, 60, seed=2)
    assert np.array_equal(sampler.indices(3), UniformEpoch(100, 60, seed=2).indices(3))
    assert not np.array_equal(sampler.indices(3), sampler.indices(4))
    assert not np.array_equal(sampler.indices(3), UniformEpoch(100, 60, seed=3).indices(3))


@pytest.mark.parametrize(("count", "length"), [(0, 3), (3, 0)])
def test_nothing_to_draw(count, length):
    with pytest.raises(EdgefelError, match="give at least 1"):
        UniformEpoch(count, length)
