"""Anchor-distance softmax by Triton, with its gradient, as one operator that PyTorch knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgefel.kernels.anchor_softmax.reference import check_anchor_arguments
from edgefel.kernels.backend import check_runnable, check_same, next_power_of_two, on_device

MOST_ANCHORS = 1024  # C * K that one program can hold
# elements of a tile of distances: 32 to a thread with 4 warps
_TILE = 4096


class Tile(NamedTuple):
    """Padded sizes of a tile of classes, anchors per class and embedding columns, and warps to hold it."""

    block_c: int
    block_k: int
    block_e: int
    warps: int


def tile_for(classes: int, per_class: int, width: int) -> Tile:
    """The tile for anchors [C, K, E]."""
    block_c, block_k = next_power_of_two(classes), next_power_of_two(per_class)
    rows = block_c * block_k
    block_e = min(max(_TILE // rows, 4), 64, next_power_of_two(width))
    return Tile(block_c, block_k, block_e, 4 if rows <= 512 else 8)


def anchor_softmax(e: Tensor, anchors: Tensor, delta: float) -> Tensor:
    """t_g[b, c] = sum over k of softmax over all (c, k) of -|e[b] - a[c, k]| / delta, in one kernel.

    Args:
        e: [B, E], E up to 1024.
        anchors: [C, K, E], C*K up to 1024.
        delta: temperature, positive.

    Returns:
        [B, C], FP32; rows sum to 1. A NaN in a row of `e` gives NaN in that row only. Differentiable in e and
        anchors; the gradient of a distance that is 0 is 0.

    Raises:
        ValueError: a shape, type, device or delta does not fit; names the argument.
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


_library = torch.library.Library("edgefel", "FRAGMENT")
_library.define(
    "anchor_softmax(Tensor e, Tensor anchors, float delta, bool differentiable) -> (Tensor out, Tensor distance)"
)
_library.define(
    "anchor_softmax_backward(Tensor grad, Tensor e, Tensor anchors, Tensor distance, float delta) "
    "-> (Tensor, Tensor)"
)


def _run_forward(e: Tensor, anchors: Tensor, delta: float, differentiable: bool) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.anchor_softmax.kernel import forward_kernel

    batch, width = e.shape
    classes, per_class, _ = anchors.shape
    out = torch.empty((batch, classes), dtype=torch.float32, device=e.device)
    saved = (batch, classes * per_class) if differentiable else (0,)
    distance = torch.empty(saved, dtype=torch.float32, device=e.device)
    tile = tile_for(classes, per_class, width)
    if batch:
        with on_device(e):
            forward_kernel[(batch,)](
                e.contiguous(),
                anchors.contiguous(),
                out,
                distance,
                1.0 / delta,
                C=classes,
                K=per_class,
                E=width,
                BLOCK_C=tile.block_c,
                BLOCK_K=tile.block_k,
                BLOCK_E=tile.block_e,
                STORE_DISTANCE=differentiable,
                num_warps=tile.warps,
            )
    return out, distance


def _run_backward(
    grad: Tensor, e: Tensor, anchors: Tensor, distance: Tensor, delta: float
) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.anchor_softmax.kernel import backward_anchors_kernel, backward_e_kernel

    batch, width = e.shape
    classes, per_class, _ = anchors.shape
    e, anchors = e.contiguous(), anchors.contiguous()
    grad_e, grad_anchors = torch.empty_like(e), torch.empty_like(anchors)
    if batch == 0:
        return grad_e, grad_anchors.zero_()
    factor = torch.empty_like(distance)
    tile = tile_for(classes, per_class, width)
    count = classes * per_class
    block_r, block_e = min(32, next_power_of_two(count)), min(64, next_power_of_two(width))
    with on_device(e):
        backward_e_kernel[(batch,)](
            grad.contiguous(),
            e,
            anchors,
            distance,
            grad_e,
            factor,
            1.0 / delta,
            C=classes,
            K=per_class,
            E=width,
            BLOCK_C=tile.block_c,
            BLOCK_K=tile.block_k,
            BLOCK_E=tile.block_e,
            num_warps=tile.warps,
        )
        backward_anchors_kernel[(-(-count // block_r), -(-width // block_e))](
            e, anchors, factor, grad_anchors, batch, ANCHORS=count, E=width, BLOCK_R=block_r, BLOCK_E=block_e
        )
    return grad_e, grad_anchors


for _key in ("CUDA", "CPU"):
    _library.impl("anchor_softmax", _run_forward, _key)
    _library.impl("anchor_softmax_backward", _run_backward, _key)


def _fake_forward(e: Tensor, anchors: Tensor, delta: float, differentiable: bool) -> tuple[Tensor, Tensor]:
    batch, (classes, per_class) = e.shape[0], anchors.shape[:2]
    saved = (batch, classes * per_class) if differentiable else (0,)
    return e.new_empty((batch, classes), dtype=torch.float32), e.new_empty(saved, dtype=torch.float32)


def _fake_backward(
    grad: Tensor, e: Tensor, anchors: Tensor, distance: Tensor, delta: float
) -> tuple[Tensor, Tensor]:
    return e.new_empty(e.shape), anchors.new_empty(anchors.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    e, anchors, ctx.delta, _ = inputs
    _, distance = output
    ctx.mark_non_differentiable(distance)
    ctx.save_for_backward(e, anchors, distance)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.edgefel.anchor_softmax_backward(grad, *ctx.saved_tensors, ctx.delta)
    return (*gradients, None, None)


torch.library.register_fake("edgefel::anchor_softmax", _fake_forward, lib=_library)
torch.library.register_fake("edgefel::anchor_softmax_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "edgefel::anchor_softmax", _backward, setup_context=_setup_context, lib=_library
)
