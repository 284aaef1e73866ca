"""Anchor-distance softmax: distances, softmax over all anchors and the sum per class in one kernel.

    d[r] = |e - a[r]|,    s = softmax(-d / delta) over r = (c, k),    t_g[c] = sum_k s[c, k]

Source: ARBEx (arXiv 2305.01486), section 3.3. Backward, with g = dL/dt_g:

    w[r] = dL/dd[r] / d[r] = -s[r] (g[c] - sum_c g t_g) / (delta d[r]),    0 where d = 0
    dL/de = sum_r w[r] (e - a[r]),    dL/da[r] = sum_b w[b, r] (a[r] - e[b])

Classes and anchors are padded to powers of two: row r of a tile is anchor r % BLOCK_K of class r // BLOCK_K.
Padded rows have distance infinity (weight 0), padded columns of e and a hold 0 in both.
"""

import triton
import triton.language as tl


@triton.jit
def anchor_rows(C: tl.constexpr, K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr):
    """Index of each tile row among the C K anchors, and whether there is such an anchor."""
    row = tl.arange(0, BLOCK_C * BLOCK_K)
    label, number = row // BLOCK_K, row % BLOCK_K
    return label * K + number, (label < C) & (number < K)


@triton.jit
def difference(e_ptr, anchors_ptr, start, anchor, inside, E: tl.constexpr, BLOCK_E: tl.constexpr):
    """e - a [len(anchor), BLOCK_E] in the columns from `start`, FP32; 0 past E."""
    column = start + tl.arange(0, BLOCK_E)
    e = tl.load(e_ptr + column, mask=column < E, other=0.0).to(tl.float32)
    mask = inside[:, None] & (column < E)[None, :]
    a = tl.load(anchors_ptr + anchor[:, None] * E + column[None, :], mask=mask, other=0.0).to(tl.float32)
    return e[None, :] - a


@triton.jit
def distances(
    e_ptr, anchors_ptr,
    C: tl.constexpr, K: tl.constexpr, E: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
):  # fmt: skip
    """|e - a| [BLOCK_C * BLOCK_K] for one contiguous embedding and contiguous anchors [C, K, E], FP32."""
    anchor, inside = anchor_rows(C, K, BLOCK_C, BLOCK_K)
    squares = tl.zeros([BLOCK_C * BLOCK_K, BLOCK_E], tl.float32)
    for start in range(0, E, BLOCK_E):
        apart = difference(e_ptr, anchors_ptr, start, anchor, inside, E, BLOCK_E)
        squares += apart * apart
    return tl.where(inside, tl.sqrt(tl.sum(squares, 1)), float("inf"))


@triton.jit
def soft_weights(distance, inverse_delta, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr):
    """softmax(-distance / delta) [BLOCK_C * BLOCK_K], and its sums per class [BLOCK_C]."""
    nearest = tl.min(distance, 0)
    weight = tl.exp((nearest - distance) * inverse_delta)
    weight = weight / tl.sum(weight, 0)
    return weight, tl.sum(tl.reshape(weight, [BLOCK_C, BLOCK_K]), 1)


@triton.jit
def forward_kernel(
    e_ptr, anchors_ptr, out_ptr, distance_ptr, inverse_delta,
    C: tl.constexpr, K: tl.constexpr, E: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr, STORE_DISTANCE: tl.constexpr,
):  # fmt: skip
    """One program: one embedding. e [B, E], anchors [C, K, E] contiguous; out [B, C], distance [B, C K]."""
    row = tl.program_id(0).to(tl.int64)
    distance = distances(e_ptr + row * E, anchors_ptr, C, K, E, BLOCK_C, BLOCK_K, BLOCK_E)
    _, sums = soft_weights(distance, inverse_delta, BLOCK_C, BLOCK_K)
    label = tl.arange(0, BLOCK_C)
    tl.store(out_ptr + row * C + label, sums, mask=label < C)
    if STORE_DISTANCE:
        anchor, inside = anchor_rows(C, K, BLOCK_C, BLOCK_K)
        tl.store(distance_ptr + row * (C * K) + anchor, distance, mask=inside)


@triton.jit
def backward_e_kernel(
    grad_ptr, e_ptr, anchors_ptr, distance_ptr, grad_e_ptr, factor_ptr, inverse_delta,
    C: tl.constexpr, K: tl.constexpr, E: tl.constexpr, NEED_E: tl.constexpr, NEED_ANCHORS: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program: one embedding. NEED_E: writes its gradient [B, E]. NEED_ANCHORS: w [B, C K] for the anchors'."""
    row = tl.program_id(0).to(tl.int64)
    anchor, inside = anchor_rows(C, K, BLOCK_C, BLOCK_K)
    distance = tl.load(distance_ptr + row * (C * K) + anchor, mask=inside, other=float("inf"))
    weight, sums = soft_weights(distance, inverse_delta, BLOCK_C, BLOCK_K)
    label = tl.arange(0, BLOCK_C)
    grad = tl.load(grad_ptr + row * C + label, mask=label < C, other=0.0)
    each = tl.reshape(tl.broadcast_to(grad[:, None], [BLOCK_C, BLOCK_K]), [BLOCK_C * BLOCK_K])
    slope = -weight * (each - tl.sum(grad * sums, 0)) * inverse_delta
    # at distance 0 there is no derivative; 0 is the middle of the slopes
    nonzero = inside & (distance != 0)
    factor = tl.where(nonzero, slope / tl.where(nonzero, distance, 1.0), 0.0)
    if NEED_ANCHORS:
        tl.store(factor_ptr + row * (C * K) + anchor, factor, mask=inside)
    if NEED_E:
        for start in range(0, E, BLOCK_E):
            column = start + tl.arange(0, BLOCK_E)
            apart = difference(e_ptr + row * E, anchors_ptr, start, anchor, inside, E, BLOCK_E)
            grad_e = tl.sum(factor[:, None] * apart, 0)
            tl.store(grad_e_ptr + row * E + column, grad_e.to(grad_e_ptr.dtype.element_ty), mask=column < E)


@triton.jit
def backward_anchors_kernel(
    e_ptr, anchors_ptr, factor_ptr, grad_anchors_ptr, batch,
    ANCHORS: tl.constexpr, E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_E columns of one anchor, of all embeddings. Grid: anchors, tiles of columns.

    BLOCK_B embeddings are read at a time, each by its own lanes; their sums are added last, in an order that depends
    on sizes alone.
    """
    anchor = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    a = tl.load(anchors_ptr + anchor * E + column, mask=column < E, other=0.0).to(tl.float32)
    total = tl.zeros([BLOCK_B, BLOCK_E], tl.float32)
    for first in range(0, batch, BLOCK_B):
        row = tl.full((), 0, tl.int64) + first + tl.arange(0, BLOCK_B)
        factor = tl.load(factor_ptr + row * ANCHORS + anchor, mask=row < batch, other=0.0)
        mask = (row < batch)[:, None] & (column < E)[None, :]
        e = tl.load(e_ptr + row[:, None] * E + column[None, :], mask=mask, other=0.0).to(tl.float32)
        total += factor[:, None] * (a[None, :] - e)
    grad = tl.sum(total, 0).to(grad_anchors_ptr.dtype.element_ty)
    tl.store(grad_anchors_ptr + anchor * E + column, grad, mask=column < E)
