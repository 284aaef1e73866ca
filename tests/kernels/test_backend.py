"""Who computes an op, and what is said where it cannot."""

from __future__ import annotations

import pytest
import torch

from edgefel.errors import EdgefelError
from edgefel.kernels import backend

CPU = torch.device("cpu")


def test_auto_is_plain_pytorch_on_the_cpu():
    x = torch.zeros(1)
    assert not backend.uses_triton("auto", x)
    assert not backend.uses_triton("reference", x)
    assert backend.uses_triton("triton", x)  # which then runs in the interpreter, or raises


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.gpu
def test_auto_is_triton_on_cuda_but_for_float64():
    x = torch.zeros(1, device="cuda")
    assert backend.uses_triton("auto", x)
    assert not backend.uses_triton("auto", x.double())


def test_the_kernels_on_the_cpu_need_the_interpreter(monkeypatch):
    backend.check_available("triton", CPU)
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    with pytest.raises(EdgefelError, match="attention 'triton' needs a CUDA device, not cpu; choose 'auto'"):
        backend.check_available("triton", CPU)
    with pytest.raises(
        ValueError, match="q: expected a CUDA tensor, got one on cpu; choose attention 'reference'"
    ):
        backend.check_runnable("q", torch.zeros(1))
    backend.check_available("auto", CPU)
    backend.check_available("reference", CPU)


def test_without_triton_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(backend, "TRITON_INSTALLED", False)
    with pytest.raises(
        EdgefelError, match=r"'triton', which is not installed; run: pip install 'edgefel\[kernels\]'"
    ):
        backend.check_available("triton", CPU)


@pytest.fixture
def tf32():
    """PyTorch may round the inputs of its FP32 matrix products."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def test_fp32_products_are_exact():
    assert backend.dot_precision(torch.float32) == "ieee"


def test_fp32_products_round_where_pytorch_may_round_its_own(tf32):
    assert backend.dot_precision(torch.float32) == "tf32"
    assert backend.dot_precision(torch.float16) == "ieee"


def test_the_next_power_of_two():
    assert [backend.next_power_of_two(n) for n in (1, 2, 3, 8, 9, 1000)] == [1, 2, 4, 8, 16, 1024]
