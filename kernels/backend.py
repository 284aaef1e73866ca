"""Which implementation of an op runs, the plain PyTorch reference or the Triton kernel, and what all ops share."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.kernels.compile_options import product_precision

Choice = Literal["auto", "reference", "triton"]
CHOICES: tuple[str, ...] = get_args(Choice)

# looked up once: torch.compile must not trace a search of the disk
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
FLOAT_TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_library = torch.library.Library("edgefel", "FRAGMENT")


def check_choice(choice: str) -> None:
    """Raises EdgefelError unless `choice` is one of CHOICES."""
    if choice not in CHOICES:
        raise EdgefelError(f"attention: '{choice}' is unknown; choose one of {', '.join(CHOICES)}")


def uses_triton(choice: str, tensor: Tensor) -> bool:
    """Whether the Triton kernel handles `tensor`.

    "auto" means Triton for CUDA tensors of up to 32 bits where Triton is installed, and the reference while
    torch.export traces: an exported graph should run anywhere. "triton" never falls back: the op raises where it cannot
    run.
    """
    if choice == "auto":
        known = tensor.is_cuda and tensor.dtype in FLOAT_TYPES
        return known and TRITON_INSTALLED and not torch.compiler.is_exporting()
    return choice == "triton"


def interpreting() -> bool:
    """Whether Triton was imported with TRITON_INTERPRET=1, which runs kernels in NumPy on the CPU."""
    import triton

    return bool(triton.knobs.runtime.interpret)


_INTERPRETER_HINT = "or set TRITON_INTERPRET=1 to run the kernels on the CPU (slow, for tests)"


def _kernels_run_on(device: torch.device) -> bool:
    """Whether kernels can run on `device`; raises EdgefelError where Triton is missing."""
    if not TRITON_INSTALLED:
        raise MissingDependencyError("triton", "kernels", "attention 'triton'")
    return device.type == "cuda" or interpreting()


def check_runnable(name: str, tensor: Tensor) -> None:
    """Raises ValueError unless kernels can run where `tensor` is, and EdgefelError where Triton is missing."""
    # tracing runs nothing; the compiled call ends here too
    if not torch.compiler.is_compiling() and not _kernels_run_on(tensor.device):
        raise ValueError(
            f"{name}: expected a CUDA tensor, got one on {tensor.device}; choose attention 'reference', "
            + _INTERPRETER_HINT
        )


def check_available(choice: str, device: torch.device) -> None:
    """Raises EdgefelError if `choice` asks for kernels that cannot run on `device`."""
    if choice == "triton" and not _kernels_run_on(device):
        raise EdgefelError(
            f"attention 'triton' needs a CUDA device, not {device}; choose 'auto' or 'reference', "
            + _INTERPRETER_HINT
        )


def check_same(reference: Tensor, reference_name: str, **others: Tensor) -> None:
    """Raises ValueError unless `others` are on the device of `reference`, and all in a type that kernels know."""
    for name, tensor in {reference_name: reference, **others}.items():
        if tensor.dtype not in FLOAT_TYPES:
            raise ValueError(f"{name}: expected float32, float16 or bfloat16, got {tensor.dtype}")
        if tensor.device != reference.device:
            raise ValueError(
                f"{name}: expected a tensor on {reference.device} like {reference_name}, got {tensor.device}"
            )


def dot_precision(dtype: torch.dtype, device: torch.device | None = None) -> str:
    """tl.dot's `input_precision` on `device`: `product_precision`, but that FP32 is rounded
    to TF32 where PyTorch may round it in its own matrix products.
    """
    if dtype != torch.float32:
        return "ieee"
    # `allow_tf32`, the older setting, raises where this newer one was used; this one follows both
    if torch.backends.cuda.matmul.fp32_precision == "tf32":
        return "tf32"
    cuda = device is not None and device.type == "cuda"
    return product_precision("fp32", _capability(device) if cuda else 0)


@lru_cache(maxsize=16)
def _capability(device: torch.device | None) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def next_power_of_two(value: int) -> int:
    """The smallest power of two that is at least `value`."""
    return 1 << max(value - 1, 0).bit_length()


def on_device(tensor: Tensor) -> Any:
    """A context in which the tensor's GPU is the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def define_operator(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> None:
    """Defines `torch.ops.edgefel.NAME`, which torch.compile and torch.export see as one operator.

    schema: "NAME(arguments) -> results", in PyTorch's language. run: on CUDA, and on the CPU by Triton's interpreter.
    fake: results without values. backward, setup_context: as in `torch.library.register_autograd`.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    for key in ("CUDA", "CPU"):
        _library.impl(name, run, key)
    torch.library.register_fake(f"edgefel::{name}", fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(
            f"edgefel::{name}", backward, setup_context=setup_context, lib=_library
        )
