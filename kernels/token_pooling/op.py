"""Attentive patch and token pooling by Triton, with their gradients, as operators of PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgefel.kernels.backend import check_runnable, check_same, define_operator, next_power_of_two, on_device
from edgefel.kernels.compile_options import COMPILE_OPTIONS
from edgefel.kernels.token_pooling.reference import check_patches, check_tokens

MOST_TOKENS = 256  # N that one program can compare
# elements of a tile to a thread
_PER_THREAD = 32
# enough for two on each multiprocessor of a large GPU; stated, so that a launch does not depend on the device
_PROGRAMS = 256


class Tile(NamedTuple):
    """How one launch cuts an image.

    block_n: padded number of scored tokens. block_d: columns per step of scoring. slices: programs per image, each
    copying `rows` source rows, `block_c` columns per step. warps: of a program.
    """

    block_n: int
    block_d: int
    slices: int
    rows: int
    block_c: int
    warps: int

    def copy_sizes(self) -> dict[str, int]:
        """Constants of every kernel that copies rows, and `num_warps`."""
        return {"SLICES": self.slices, "ROWS": self.rows, "BLOCK_C": self.block_c, "num_warps": self.warps}

    def pooling_sizes(self, count: int, width: int, keep: int, store_place: bool) -> dict[str, int]:
        """Constants of both pooling kernels for `count` scored tokens, and `num_warps`."""
        sizes = {"N": count, "D": width, "KEEP": keep, **self.copy_sizes()}
        return sizes | {"BLOCK_N": self.block_n, "STORE_PLACE": store_place}


def tile_for(tokens: int, rows: int, width: int, batch: int = 1) -> Tile:
    """The tile for N scored `tokens` among `rows` source rows of `width` columns, for `batch` images.

    Few images are cut into slices of 32 rows; many keep the GPU busy with fewer slices, which score less often.
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


def positions_tile(batch: int, width: int) -> dict[str, int]:
    """Images and columns that a program of the positions' gradient reads at a time, and `num_warps`."""
    block_b, block_c = min(64, next_power_of_two(batch)), min(64, next_power_of_two(width))
    return {"BLOCK_B": block_b, "BLOCK_C": block_c, "num_warps": 4 if block_b >= 16 else 1}


def pool_patches(patches: Tensor, positions: Tensor, keep: int) -> Tensor:
    """`reference.pool_patches` in one launch: same arguments and errors, any strides, N up to 256.

    A NaN stays in its image. Differentiable in patches and positions; the choice has no gradient. Raises ValueError for
    a size, type or device that does not fit, too.
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
    """`reference.pool_tokens` in one launch: same arguments and errors, any strides, N up to 256.

    Of `products` only the class token's row is read, in place. Differentiable in tokens. Raises ValueError for a size,
    type or device that does not fit, too.
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


def _near(x: Tensor) -> Tensor:
    """`x`, copied where offsets within one image do not fit 32 bits."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
    return x if last < 2**31 else x.contiguous()


def _empty_patches(patches: Tensor, positions: Tensor, keep: int, place: bool) -> tuple[Tensor, Tensor]:
    batch, _, width = patches.shape
    dtype = torch.promote_types(patches.dtype, positions.dtype)
    return patches.new_empty((batch, keep, width), dtype=dtype), _empty_place(patches, place)


def _empty_tokens(tokens: Tensor, products: Tensor, keep: int, place: bool) -> tuple[Tensor, Tensor]:
    batch, _, width = tokens.shape
    return tokens.new_empty((batch, 1 + keep, width)), _empty_place(tokens, place)


def _empty_place(source: Tensor, wanted: bool) -> Tensor:
    return source.new_empty(source.shape[:2] if wanted else (0,), dtype=torch.int32)


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
            sizes = tile.pooling_sizes(count, width, keep, differentiable) | {"BLOCK_D": tile.block_d}
            arrays = (patches, positions.contiguous(), out, place)
            patch_kernel[(batch * tile.slices,)](*arrays, *patches.stride(), **sizes, **COMPILE_OPTIONS)
    return out, place


def _run_tokens(tokens: Tensor, products: Tensor, keep: int, differentiable: bool) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.token_pooling.kernel import token_kernel

    out, place = _empty_tokens(tokens, products, keep, differentiable)
    batch, count, width = tokens.shape
    if out.numel():
        tile = tile_for(count - 1, count, width, batch)
        tokens, products = _near(tokens), _near(products)
        strides = (*tokens.stride(), *(products.stride(axis) for axis in (0, 1, 3)))
        with on_device(tokens):
            sizes = tile.pooling_sizes(count - 1, width, keep, differentiable) | {"H": products.shape[1]}
            token_kernel[(batch * tile.slices,)](
                tokens, products, out, place, *strides, **sizes, **COMPILE_OPTIONS
            )
    return out, place


def _run_backward(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    from edgefel.kernels.token_pooling.kernel import backward_kernel

    batch, kept, width = grad.shape
    rows = place.shape[1]
    out = _fake_backward(grad, place, dtype)
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
                **tile.copy_sizes(),
                **COMPILE_OPTIONS,
            )
    return out


def _run_backward_positions(grad: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    from edgefel.kernels.token_pooling.kernel import backward_positions_kernel

    batch, kept, width = grad.shape
    count = place.shape[1]
    out = _fake_backward_positions(grad, place, dtype)
    if out.numel():
        tile = positions_tile(batch, width)
        sizes = {"N": count, "KEPT": kept, "D": width, **tile, **COMPILE_OPTIONS}
        with on_device(grad):
            backward_positions_kernel[(count, -(-width // tile["BLOCK_C"]))](
                grad.contiguous(), place, out, batch, **sizes
            )
    return out


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


# place: int32, the row of the result that each source row went to, -1 where it was dropped; empty unless differentiable
define_operator(
    "pool_patches(Tensor patches, Tensor positions, int keep, bool differentiable) -> (Tensor out, Tensor place)",
    _run_patches,
    _empty_patches,
    _backward_patches,
    _setup_context,
)
define_operator(
    "pool_tokens(Tensor tokens, Tensor products, int keep, bool differentiable) -> (Tensor out, Tensor place)",
    _run_tokens,
    _empty_tokens,
    _backward_tokens,
    _setup_context,
)
define_operator(
    "pool_backward(Tensor grad, Tensor place, ScalarType dtype) -> Tensor", _run_backward, _fake_backward
)
define_operator(
    "pool_backward_positions(Tensor grad, Tensor place, ScalarType dtype) -> Tensor",
    _run_backward_positions,
    _fake_backward_positions,
)
