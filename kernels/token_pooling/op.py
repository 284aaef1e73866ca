"""Attentive patch and token pooling by Triton, with their gradients, as operators that PyTorch knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgefel.kernels.backend import check_runnable, check_same, next_power_of_two, on_device
from edgefel.kernels.token_pooling.reference import check_patches, check_tokens

MOST_TOKENS = 256  # N that one program can compare
# elements of a tile to a thread
_PER_THREAD = 32
# enough for two on each multiprocessor of a large GPU; stated, so that a launch does not depend on the device
_PROGRAMS = 256


class Tile(NamedTuple):
    """How one launch cuts an image.

    block_n: padded number of scored tokens. block_d: columns to a step of scoring. slices: programs to an image,
    each copying `rows` source rows, `block_c` columns to a step. warps: of a program.
    """

    block_n: int
    block_d: int
    slices: int
    rows: int
    block_c: int
    warps: int


def tile_for(tokens: int, rows: int, width: int, batch: int = 1) -> Tile:
    """The tile for N scored `tokens` among `rows` source rows of `width` columns, for `batch` images.

    Few images are cut into slices of 32 rows; many keep the GPU busy with fewer, which score less often.
    """
    block_n, columns = next_power_of_two(tokens), next_power_of_two(width)
    most = next_power_of_two(rows)
    part = min(32, most)
    while part < most and batch * -(-rows // (2 * part)) >= _PROGRAMS:
        part *= 2
    warps = 8 if block_n > 64 else 4
    elements = _PER_THREAD * 32 * warps
    return Tile(
        block_n,
        min(elements // block_n, columns, 64),
        -(-rows // part),
        part,
        min(elements // part, columns, 256),
        warps,
    )


def pool_patches(patches: Tensor, positions: Tensor, keep: int) -> Tensor:
    """Attentive patch pooling in one launch: score, choose, add positions, gather.

    Args:
        patches: [B, N, D], any strides, N up to 256; scored without positions.
        positions: [N, D] or [1, N, D].
        keep: 1 to N.

    Returns:
        [B, keep, D] in the common type of both: the patches with the greatest sums of absolute features, in their
        order. Of equal sums the lower index is kept; NaN is kept before every number, and stays in its image.
        Differentiable in patches and positions; the choice has no gradient.

    Raises:
        ValueError: a shape, type, device or `keep` does not fit; names the argument.
    """
    check_patches(patches, positions, keep)
    _check_count("patches", patches.shape[1])
    check_same(patches, "patches", positions=positions)
    check_runnable("patches", patches)
    wanted = torch.is_grad_enabled() and (patches.requires_grad or positions.requires_grad)
    flat = positions.reshape(positions.shape[-2:])
    out, _ = torch.ops.edgefel.pool_patches(patches, flat, keep, wanted)
    return out


def pool_tokens(tokens: Tensor, products: Tensor, keep: int) -> Tensor:
    """Attentive token pooling in one launch: score, choose, gather.

    Args:
        tokens: [B, 1 + N, D], any strides, class token first; N up to 256.
        products: [B, H, 1 + N, 1 + N], any strides, q k / sqrt(d) before the softmax; the class token's row alone
            is read, where it lies.
        keep: 1 to N.

    Returns:
        [B, 1 + keep, D] in the type of `tokens`: the class token and those whose products with it, summed over the
        heads, are greatest, in their order; ties and NaN as in `pool_patches`. Differentiable in tokens.

    Raises:
        ValueError: a shape, type, device or `keep` does not fit; names the argument.
    """
    check_tokens(tokens, products, keep)
    _check_count("tokens", tokens.shape[1] - 1)
    check_same(tokens, "tokens", products=products)
    check_runnable("tokens", tokens)
    wanted = torch.is_grad_enabled() and tokens.requires_grad
    out, _ = torch.ops.edgefel.pool_tokens(tokens, products, keep, wanted)
    return out


def _check_count(name: str, tokens: int) -> None:
    if tokens > MOST_TOKENS:
        raise ValueError(f"{name}: expected N up to {MOST_TOKENS}, got {tokens}")


_library = torch.library.Library("edgefel", "FRAGMENT")
# place: int32, the row of the result that each source row went to, -1 where it was dropped; empty unless wanted
_library.define(
    "pool_patches(Tensor patches, Tensor positions, int keep, bool differentiable) -> (Tensor out, Tensor place)"
)
_library.define(
    "pool_tokens(Tensor tokens, Tensor products, int keep, bool differentiable) -> (Tensor out, Tensor place)"
)
_library.define("pool_backward(Tensor grad, Tensor place, ScalarType dtype) -> Tensor")
_library.define("pool_backward_positions(Tensor grad, Tensor place, ScalarType dtype) -> Tensor")


def _near(x: Tensor) -> Tensor:
    """`x`, copied where offsets within one image do not fit 32 bits."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
    return x if last < 2**31 else x.contiguous()


def _empty_patches(patches: Tensor, positions: Tensor, keep: int, place: bool) -> tuple[Tensor, Tensor]:
    batch, count, width = patches.shape
    dtype = torch.promote_types(patches.dtype, positions.dtype)
    out = torch.empty((batch, keep, width), dtype=dtype, device=patches.device)
    return out, _empty_place(patches, (batch, count) if place else (0,))


def _empty_tokens(tokens: Tensor, products: Tensor, keep: int, place: bool) -> tuple[Tensor, Tensor]:
    batch, count, width = tokens.shape
    out = torch.empty((batch, 1 + keep, width), dtype=tokens.dtype, device=tokens.device)
    return out, _empty_place(tokens, (batch, count) if place else (0,))


def _empty_place(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.int32, device=like.device)


def _run_patches(
    patches: Tensor, positions: Tensor, keep: int, differentiable: bool
) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.token_pooling.kernel import patch_kernel

    out, place = _empty_patches(patches, positions, keep, differentiable)
    batch, count, width = patches.shape
    if out.numel():
        tile = tile_for(count, count, width, batch)
        patches = _near(patches)
        with on_device(patches):
            patch_kernel[(batch * tile.slices,)](
                patches,
                positions.contiguous(),
                out,
                place,
                *patches.stride(),
                N=count,
                D=width,
                KEEP=keep,
                SLICES=tile.slices,
                BLOCK_N=tile.block_n,
                BLOCK_D=tile.block_d,
                ROWS=tile.rows,
                BLOCK_C=tile.block_c,
                STORE_PLACE=differentiable,
                num_warps=tile.warps,
            )
    return out, place


def _run_tokens(tokens: Tensor, products: Tensor, keep: int, differentiable: bool) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.token_pooling.kernel import token_kernel

    out, place = _empty_tokens(tokens, products, keep, differentiable)
    batch, count, width = tokens.shape
    if out.numel():
        tile = tile_for(count - 1, count, width, batch)
        tokens, products = _near(tokens), _near(products)
        stride_pb, stride_ph, _, stride_pk = products.stride()
        with on_device(tokens):
            token_kernel[(batch * tile.slices,)](
                tokens,
                products,
                out,
                place,
                *tokens.stride(),
                stride_pb,
                stride_ph,
                stride_pk,
                H=products.shape[1],
                N=count - 1,
                D=width,
                KEEP=keep,
                SLICES=tile.slices,
                BLOCK_N=tile.block_n,
                ROWS=tile.rows,
                BLOCK_C=tile.block_c,
                STORE_PLACE=differentiable,
                num_warps=tile.warps,
            )
    return out, place


def _run_backward(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    from edgefel.kernels.token_pooling.kernel import backward_kernel

    batch, kept, width = grad.shape
    rows = place.shape[1]
    out = torch.empty((batch, rows, width), dtype=dtype, device=grad.device)
    if out.numel():
        tile = tile_for(rows, rows, width, batch)
        with on_device(grad):
            backward_kernel[(batch * tile.slices,)](
                grad.contiguous(),
                place,
                out,
                T=rows,
                KEPT=kept,
                D=width,
                SLICES=tile.slices,
                ROWS=tile.rows,
                BLOCK_C=tile.block_c,
                num_warps=tile.warps,
            )
    return out


def _run_backward_positions(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    from edgefel.kernels.token_pooling.kernel import backward_positions_kernel

    batch, kept, width = grad.shape
    count = place.shape[1]
    out = torch.empty((count, width), dtype=dtype, device=grad.device)
    if out.numel():
        rows, columns = min(16, next_power_of_two(count)), min(64, next_power_of_two(width))
        with on_device(grad):
            backward_positions_kernel[(-(-count // rows), -(-width // columns))](
                grad.contiguous(),
                place,
                out,
                batch,
                N=count,
                KEPT=kept,
                D=width,
                ROWS=rows,
                BLOCK_C=columns,
            )
    return out


for _key in ("CUDA", "CPU"):
    _library.impl("pool_patches", _run_patches, _key)
    _library.impl("pool_tokens", _run_tokens, _key)
    _library.impl("pool_backward", _run_backward, _key)
    _library.impl("pool_backward_positions", _run_backward_positions, _key)


def _fake_backward(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    return grad.new_empty((*place.shape, grad.shape[2]), dtype=dtype)


def _fake_backward_positions(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    return grad.new_empty((place.shape[1], grad.shape[2]), dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    source, other = inputs[:2]
    ctx.types = source.dtype, other.dtype
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _backward_patches(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    (place,) = ctx.saved_tensors
    (dtype, position_dtype), wanted = ctx.types, ctx.needs_input_grad
    patches = torch.ops.edgefel.pool_backward(grad, place, dtype) if wanted[0] else None
    positions = torch.ops.edgefel.pool_backward_positions(grad, place, position_dtype) if wanted[1] else None
    return patches, positions, None, None


def _backward_tokens(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    (place,) = ctx.saved_tensors
    return torch.ops.edgefel.pool_backward(grad, place, ctx.types[0]), None, None, None


torch.library.register_fake("edgefel::pool_patches", _empty_patches, lib=_library)
torch.library.register_fake("edgefel::pool_tokens", _empty_tokens, lib=_library)
torch.library.register_fake("edgefel::pool_backward", _fake_backward, lib=_library)
torch.library.register_fake("edgefel::pool_backward_positions", _fake_backward_positions, lib=_library)
torch.library.register_autograd(
    "edgefel::pool_patches", _backward_patches, setup_context=_setup_context, lib=_library
)
torch.library.register_autograd(
    "edgefel::pool_tokens", _backward_tokens, setup_context=_setup_context, lib=_library
)
