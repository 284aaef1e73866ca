"""A checkpoint on a device, which here is the CPU: both precisions, what is timed, and what is refused."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from edgefel.bench.compare import contenders as opened
from edgefel.bench.compare.contenders import EAGER, Subject, open_backend, open_pytorch
from edgefel.bench.compare.cuda import CUDA, open_on_device
from edgefel.bench.compare.run import CompareOptions, check_outputs, compare
from edgefel.bench.sessions import faces
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> Subject:
    return Subject("arbex-nano", nano_checkpoint, None, True, EXPRESSIONS_7, default_preprocessing(112))


@pytest.fixture(scope="module")
def images(nano) -> np.ndarray:
    return nano.preprocessing.batch(faces(2))


def test_both_precisions_give_pytorchs_logits(nano, images):
    half, full = open_on_device(nano.checkpoint, "pytorch-cuda", ("fp16", "int8", "fp32"), device="cpu")
    assert (half.precision, full.precision) == ("fp16", "fp32")
    expected = open_pytorch(nano, EAGER, 1).logits(images)
    np.testing.assert_allclose(full.output("logits", images), expected, rtol=1e-4, atol=1e-5)
    found = half.output("logits", images)
    assert (found.dtype, half.ready(images)().logits.dtype) == (np.float32, torch.float16)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_without_an_fp32_contender_the_cpu_judges(nano, images, monkeypatch):
    (half,) = open_on_device(nano.checkpoint, "pytorch-cuda", ("fp16",), device="cpu")
    contender = opened._on_device(nano, "pytorch-cuda", half)
    sqnr = check_outputs([contender], {nano.name: images})
    assert 25 < sqnr[contender.name] < 100
    wrong = dataclasses.replace(contender, logits=lambda batch: 1 + half.output("logits", batch))
    with pytest.raises(EdgefelError, match="nothing was timed"):
        check_outputs([wrong], {nano.name: images})


def test_what_is_timed_has_its_images_already(nano, images, monkeypatch):
    (half,) = open_on_device(nano.checkpoint, "pytorch-cuda", ("fp16",), device="cpu")
    call = opened._on_device(nano, "pytorch-cuda", half).call(images)
    monkeypatch.setattr(torch, "from_numpy", None)
    assert call().probabilities.shape == (2, 7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_named_backend_needs_a_device(nano):
    for backend in CUDA:
        with pytest.raises(EdgefelError, match=f"{backend}: no CUDA device here"):
            compare([nano], CompareOptions(backends=(backend,), precisions=("fp16",), memory=False))


def test_a_network_that_does_not_run_is_an_error_of_its_backend(nano, images):
    (half,) = open_on_device(nano.checkpoint, "pytorch-cuda", ("fp16",), device="cpu")

    def broken(batch):
        raise RuntimeError("no such kernel")

    with pytest.raises(EdgefelError, match="pytorch-cuda: RuntimeError: no such kernel"):
        dataclasses.replace(half, network=broken).ready(images)


def test_what_is_not_there_is_refused(nano, nano_checkpoint):
    with pytest.raises(EdgefelError, match="pytorch-cuda: runs fp32 and fp16, not int8"):
        open_on_device(nano.checkpoint, "pytorch-cuda", ("int8",), device="cpu")
    bundle = dataclasses.replace(nano, checkpoint=None, bundle=nano_checkpoint)
    with pytest.raises(EdgefelError, match="a bundle holds no PyTorch model"):
        open_backend(bundle, "pytorch-cuda", ("fp32",), 1, 1, ExitStack(), {})
