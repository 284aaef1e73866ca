"""Anchor-distance softmax by Triton, with its gradient, as an operator of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgefel.kernels.anchor_softmax.reference import check_anchor_arguments
from edgefel.kernels.backend import check_runnable, check_same, define_operator, next_power_of_two, on_device
from edgefel.kernels.compile_options import COMPILE_OPTIONS

MOST_ANCHORS = 1024  # C * K that one program can hold
# elements of a tile of distances: 32 to a thread with 4 warps
_TILE = 4096


def launch_sizes(classes: int, per_class: int, width: int) -> dict[str, int]:
    """Constants of the kernels for anchors [C, K, E], and `num_warps`. K = 0 is a head without anchors."""
    block_c, block_k = next_power_of_two(classes), next_power_of_two(max(per_class, 1))
    rows = block_c * block_k
    return {
        "C": classes,
        "K": per_class,
        "E": width,
        "BLOCK_C": block_c,
        "BLOCK_K": block_k,
        "BLOCK_E": min(max(_TILE // rows, 4), 64, next_power_of_two(width)),
        "num_warps": 4 if rows <= 512 else 8,
    }


def anchors_tile(batch: int, width: int) -> dict[str, int]:
    """Tile of the anchors' gradient: embeddings and columns that are read at a time, and `num_warps`."""
    block_b, block_e = min(64, next_power_of_two(batch)), min(32, next_power_of_two(width))
    return {"BLOCK_B": block_b, "BLOCK_E": block_e, "num_warps": 4 if block_b >= 32 else 1}


def anchor_softmax(e: Tensor, anchors: Tensor, delta: float) -> Tensor:
    """`reference.anchor_softmax` in one kernel: same arguments and errors, E and C*K up to 1024.

    Returns FP32. Differentiable in e and anchors, and only the gradients that are needed are computed; that of a
    distance that is 0 is 0. Raises ValueError for a size, type or device that does not fit, too.
    """
    check_anchor_arguments(e, anchors, delta)
    check_size(anchors)
    check_same(e, "e", anchors=anchors)
    check_runnable("e", e)
    differentiable = torch.is_grad_enabled() and (e.requires_grad or anchors.requires_grad)
    out, _ = torch.ops.edgefel.anchor_softmax(e, anchors, delta, differentiable)
    return out


def check_size(anchors: Tensor) -> None:
    """Raises ValueError for more anchors, or wider ones, than the kernels take."""
    classes, per_class, width = anchors.shape
    if not 1 <= classes * per_class <= MOST_ANCHORS:
        raise ValueError(f"anchors: expected C * K from 1 to {MOST_ANCHORS}, got {classes} * {per_class}")
    if not 1 <= width <= 1024:
        raise ValueError(f"anchors: expected E from 1 to 1024, got {width}")


def _empty_forward(e: Tensor, anchors: Tensor, delta: float, differentiable: bool) -> tuple[Tensor, Tensor]:
    batch, (classes, per_class) = e.shape[0], anchors.shape[:2]
    saved = (batch, classes * per_class) if differentiable else (0,)
    return e.new_empty((batch, classes), dtype=torch.float32), e.new_empty(saved, dtype=torch.float32)


def _run_forward(e: Tensor, anchors: Tensor, delta: float, differentiable: bool) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.anchor_softmax.kernel import forward_kernel

    out, distance = _empty_forward(e, anchors, delta, differentiable)
    if e.shape[0]:
        with on_device(e):
            sizes = launch_sizes(*anchors.shape) | {"STORE_DISTANCE": differentiable} | COMPILE_OPTIONS
            forward_kernel[(e.shape[0],)](
                e.contiguous(), anchors.contiguous(), out, distance, 1.0 / delta, **sizes
            )
    return out, distance


def _run_backward(
    grad: Tensor,
    e: Tensor,
    anchors: Tensor,
    distance: Tensor,
    delta: float,
    needs_e: bool,
    needs_anchors: bool,
) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.anchor_softmax.kernel import backward_anchors_kernel, backward_e_kernel

    batch, width = e.shape
    e, anchors = e.contiguous(), anchors.contiguous()
    gradients = _fake_backward(grad, e, anchors, distance, delta, needs_e, needs_anchors)
    if batch == 0:
        gradients[1].zero_()
    elif needs_e or needs_anchors:
        factor = torch.empty_like(distance) if needs_anchors else distance
        needed = {"NEED_E": needs_e, "NEED_ANCHORS": needs_anchors}
        with on_device(e):
            inputs = (grad.contiguous(), e, anchors, distance)
            sizes = launch_sizes(*anchors.shape) | needed | COMPILE_OPTIONS
            backward_e_kernel[(batch,)](*inputs, gradients[0], factor, 1.0 / delta, **sizes)
            if needs_anchors:
                count, tile = anchors.shape[0] * anchors.shape[1], anchors_tile(batch, width)
                sizes = {"ANCHORS": count, "E": width, **tile, **COMPILE_OPTIONS}
                backward_anchors_kernel[(count, -(-width // tile["BLOCK_E"]))](
                    e, anchors, factor, gradients[1], batch, **sizes
                )
    return gradients


def _fake_backward(grad: Tensor, e: Tensor, anchors: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Gradients without values; empty where they are not needed."""
    needs_e, needs_anchors = rest[-2:]
    return e.new_empty(e.shape if needs_e else 0), anchors.new_empty(anchors.shape if needs_anchors else 0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    e, anchors, ctx.delta, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(e, anchors, output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    gradients = torch.ops.edgefel.anchor_softmax_backward(grad, *ctx.saved_tensors, ctx.delta, *needs)
    needed = [gradient if need else None for gradient, need in zip(gradients, needs, strict=True)]
    return (*needed, None, None)


define_operator(
    "anchor_softmax(Tensor e, Tensor anchors, float delta, bool differentiable) "
    "-> (Tensor out, Tensor distance)",
    _run_forward,
    _empty_forward,
    _backward,
    _setup_context,
)
define_operator(
    "anchor_softmax_backward(Tensor grad, Tensor e, Tensor anchors, Tensor distance, float delta, bool needs_e, "
    "bool needs_anchors) -> (Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)
