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


@pytest.fixture(
    params=["allow_tf32", "set_float32_matmul_precision", "fp32_precision", "fp32_precision of all"]
)
def tf32(request):
    """PyTorch may round the inputs of its FP32 matrix products, by each way to say so."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.fp32_precision
    if request.param == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    elif request.param == "set_float32_matmul_precision":
        torch.set_float32_matmul_precision("high")
    elif request.param == "fp32_precision":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.backends.fp32_precision = "tf32"
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision, torch.backends.fp32_precision = before


def test_fp32_products_are_exact():
    assert backend.dot_precision(torch.float32) == "ieee"
    assert backend.dot_precision(torch.float32, CPU) == "ieee"


def test_fp32_products_round_where_pytorch_may_round_its_own(tf32):
    assert backend.dot_precision(torch.float32) == "tf32"
    assert backend.dot_precision(torch.float16) == "ieee"


@pytest.mark.parametrize(
    ("capability", "expected"), [(75, "ieee"), (80, "tf32x3"), (87, "tf32x3"), (120, "tf32x3")]
)
def test_tensor_cores_multiply_fp32_in_three_parts_where_they_can(capability, expected, monkeypatch):
    monkeypatch.setattr(backend, "_capability", lambda device: capability)
    assert backend.dot_precision(torch.float32, torch.device("cuda")) == expected
    assert backend.dot_precision(torch.float16, torch.device("cuda")) == "ieee"


def _rounded(x):
    """x to TF32's 10 bits of mantissa, to nearest, ties away from zero."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def _three_products(a, b):
    """a @ b as tf32x3 has it, sums in FP32."""
    parts = []
    for x in (a, b):
        large = _rounded(x)
        parts.append((large, _rounded(x - large)))
    (a_large, a_small), (b_large, b_small) = parts
    return a_small @ b_large + a_large @ b_small + a_large @ b_large


@pytest.mark.parametrize("width", [16, 32, 64, 784])
def test_three_tf32_products_are_as_good_as_fp32(width):
    """Against float64; TF32 alone is a thousand times worse."""
    generator = torch.Generator().manual_seed(width)
    a, b = torch.randn(256, width, generator=generator), torch.randn(width, 256, generator=generator)
    exact = a.double() @ b.double()

    def error(product):
        return float((product.double() - exact).norm() / exact.norm())

    assert error(_three_products(a, b)) < 2 * error(a @ b) + 1e-7
    assert error(_three_products(a, b)) < 1e-6
    assert error(_rounded(a) @ _rounded(b)) > 1e-4


def test_the_next_power_of_two():
    assert [backend.next_power_of_two(n) for n in (1, 2, 3, 8, 9, 1000)] == [1, 2, 4, 8, 16, 1024]
