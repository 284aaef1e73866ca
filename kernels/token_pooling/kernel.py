"""Token pooling by rank: scores, choice and copy of the best tokens of each image in one kernel.

    patches: s[n] = sum_d |x[n, d]|            tokens: s[n] = sum_h p[h, 0, 1 + n]
    rank[n] = #{j: s[j] > s[n], or s[j] = s[n] and j < n}        kept[n] = rank[n] < KEEP
    place[n] = #{j < n: kept[j]}, a prefix sum                   out[place[n]] = x[n] (+ position[n]) where kept

Source: APViT (arXiv 2212.05463), sections 3.2 and 3.3. Counting needs no sort, no second launch and no atomics: N is
at most 256, and all N^2 comparisons happen in registers.

Grid: SLICES consecutive programs per image. Each scores all tokens (all but the first read them from the L2 cache) and
copies ROWS of them, so that one image fills more than one multiprocessor. Programs are independent, and the result does
not depend on SLICES.

Scores are FP32, summed in an order that depends on sizes alone. They are compared as integers that sort the same way,
with -0 equal to 0 and NaN, of either sign, above infinity. Padded tokens rank last and are never kept.
"""

import triton
import triton.language as tl


@triton.jit
def patch_scores(
    patches_ptr,
    stride_n: tl.constexpr,
    stride_d: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """sum_d |x[n, d]| [BLOCK_N] of one image, FP32; 0 where there is no patch."""
    token = tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for start in range(0, D, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        mask = (token < N)[:, None] & (column < D)[None, :]
        offsets = token[:, None] * stride_n + column[None, :] * stride_d
        total += tl.abs(tl.load(patches_ptr + offsets, mask=mask, other=0.0).to(tl.float32))
    return tl.sum(total, 1)


@triton.jit
def token_scores(products_ptr, stride_h, stride_k, H: tl.constexpr, N: tl.constexpr, BLOCK_N: tl.constexpr):
    """sum_h p[h, 0, 1 + n] [BLOCK_N] of one image, FP32, heads in order; 0 where there is no token."""
    token = tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_N], tl.float32)
    for head in range(H):
        offsets = head * stride_h + (1 + token) * stride_k
        total += tl.load(products_ptr + offsets, mask=token < N, other=0.0).to(tl.float32)
    return total


@triton.jit
def kept_tokens(score, N: tl.constexpr, KEEP: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether each token is one of the KEEP best [BLOCK_N]."""
    token = tl.arange(0, BLOCK_N)
    bits = score.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    key = tl.where(bits < 0, -size, size)
    key = tl.where(size > 0x7F800000, 0x7FFFFFFF, key)
    key = tl.where(token < N, key, -0x7FFFFFFF)
    # all pairs at once would be 256 values to a thread, more than it has registers
    CHUNK: tl.constexpr = 32 if BLOCK_N > 32 else BLOCK_N
    rank = tl.zeros([BLOCK_N], tl.int32)
    for start in range(0, BLOCK_N, CHUNK):
        other = start + tl.arange(0, CHUNK)
        other_key = tl.gather(key, other, 0)
        better = other_key[None, :] > key[:, None]
        before = (other_key[None, :] == key[:, None]) & (other[None, :] < token[:, None])
        rank += tl.sum((better | before).to(tl.int32), 1)
    return rank < KEEP


@triton.jit
def copy_kept(
    kept, source_ptr, positions_ptr, out_ptr, place_ptr, part,
    stride_n: tl.constexpr, stride_d: tl.constexpr, N: tl.constexpr, D: tl.constexpr, CLASS: tl.constexpr,
    BLOCK_N: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, POSITIONS: tl.constexpr,
    STORE_PLACE: tl.constexpr,
):  # fmt: skip
    """Copies what is kept of ROWS source rows of one image. CLASS = 1: row 0 is the class token, always kept.

    The source is read in its own layout, so that patches stored as a map [D, N] are read in order too.
    """
    row = part * ROWS + tl.arange(0, ROWS)
    places = tl.where(kept, CLASS + tl.cumsum(kept.to(tl.int32), 0) - 1, -1)
    # rows past the last token read another's place, and are masked
    place = tl.gather(places, tl.minimum(tl.maximum(row - CLASS, 0), BLOCK_N - 1), 0)
    place = tl.where(row < CLASS, row, place)
    chosen = (row < N + CLASS) & (place >= 0)
    if STORE_PLACE:
        tl.store(place_ptr + row, place, mask=row < N + CLASS)
    for start in range(0, D, BLOCK_C):
        column = start + tl.arange(0, BLOCK_C)
        mask = chosen[:, None] & (column < D)[None, :]
        value = tl.load(
            source_ptr + row[:, None] * stride_n + column[None, :] * stride_d, mask=mask, other=0.0
        )
        if POSITIONS:
            position = tl.load(positions_ptr + row[:, None] * D + column[None, :], mask=mask, other=0.0)
            value = value.to(tl.float32) + position.to(tl.float32)
        value = value.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + place[:, None] * D + column[None, :], value, mask=mask)


@triton.jit
def patch_kernel(
    patches_ptr, positions_ptr, out_ptr, place_ptr, stride_b,
    stride_n: tl.constexpr, stride_d: tl.constexpr, N: tl.constexpr, D: tl.constexpr, KEEP: tl.constexpr,
    SLICES: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr, STORE_PLACE: tl.constexpr,
):  # fmt: skip
    """patches [B, N, D] strided, positions [N, D] contiguous; out [B, KEEP, D], place [B, N]. Grid: B * SLICES."""
    image = (tl.program_id(0) // SLICES).to(tl.int64)
    patches_ptr += image * stride_b
    if STORE_PLACE:
        place_ptr += image * N
    score = patch_scores(patches_ptr, stride_n, stride_d, N, D, BLOCK_N, BLOCK_D)
    kept = kept_tokens(score, N, KEEP, BLOCK_N)
    copy_kept(kept, patches_ptr, positions_ptr, out_ptr + image * (KEEP * D), place_ptr,
              tl.program_id(0) % SLICES, stride_n, stride_d, N, D, 0, BLOCK_N, ROWS, BLOCK_C,
              True, STORE_PLACE)  # fmt: skip


@triton.jit
def token_kernel(
    tokens_ptr, products_ptr, out_ptr, place_ptr, stride_b, stride_n: tl.constexpr, stride_d: tl.constexpr,
    stride_pb, stride_ph, stride_pk, H: tl.constexpr, N: tl.constexpr, D: tl.constexpr, KEEP: tl.constexpr,
    SLICES: tl.constexpr, BLOCK_N: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
    STORE_PLACE: tl.constexpr,
):  # fmt: skip
    """tokens [B, 1 + N, D] and products [B, H, 1 + N, 1 + N] strided; out [B, 1 + KEEP, D], place [B, 1 + N]."""
    image = (tl.program_id(0) // SLICES).to(tl.int64)
    tokens_ptr += image * stride_b
    if STORE_PLACE:
        place_ptr += image * (1 + N)
    score = token_scores(products_ptr + image * stride_pb, stride_ph, stride_pk, H, N, BLOCK_N)
    kept = kept_tokens(score, N, KEEP, BLOCK_N)
    copy_kept(kept, tokens_ptr, tokens_ptr, out_ptr + image * ((1 + KEEP) * D), place_ptr,
              tl.program_id(0) % SLICES, stride_n, stride_d, N, D, 1, BLOCK_N, ROWS, BLOCK_C,
              False, STORE_PLACE)  # fmt: skip


@triton.jit
def backward_kernel(
    grad_ptr, place_ptr, grad_source_ptr,
    T: tl.constexpr, KEPT: tl.constexpr, D: tl.constexpr, SLICES: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradient of all T source rows: that of the result row each went to, 0 for dropped rows.

    grad [B, KEPT, D], place [B, T], grad_source [B, T, D], contiguous; every element is written once. Grid: B * SLICES.
    """
    image = (tl.program_id(0) // SLICES).to(tl.int64)
    row = (tl.program_id(0) % SLICES) * ROWS + tl.arange(0, ROWS)
    place = tl.load(place_ptr + image * T + row, mask=row < T, other=-1)
    grad_ptr += image * (KEPT * D)
    grad_source_ptr += image * (T * D)
    for start in range(0, D, BLOCK_C):
        column = start + tl.arange(0, BLOCK_C)
        inside = (column < D)[None, :]
        offsets = place[:, None] * D + column[None, :]
        grad = tl.load(grad_ptr + offsets, mask=(place >= 0)[:, None] & inside, other=0.0)
        tl.store(
            grad_source_ptr + row[:, None] * D + column[None, :],
            grad.to(grad_source_ptr.dtype.element_ty),
            mask=(row < T)[:, None] & inside,
        )


@triton.jit
def backward_positions_kernel(
    grad_ptr, place_ptr, grad_positions_ptr, batch,
    N: tl.constexpr, KEPT: tl.constexpr, D: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradient of the positions [N, D], FP32 sums over the batch. Grid: N, tiles of columns.

    BLOCK_B images are read at a time, each by its own lanes; their sums are added last, in an order that depends on
    sizes alone.
    """
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_B, BLOCK_C], tl.float32)
    for first in range(0, batch, BLOCK_B):
        image = tl.full((), 0, tl.int64) + first + tl.arange(0, BLOCK_B)
        place = tl.load(place_ptr + image * N + row, mask=image < batch, other=-1)
        offsets = (image * (KEPT * D) + place * D)[:, None] + column[None, :]
        mask = (place >= 0)[:, None] & (column < D)[None, :]
        total += tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    grad = tl.sum(total, 0).to(grad_positions_ptr.dtype.element_ty)
    tl.store(grad_positions_ptr + row * D + column, grad, mask=column < D)
