"""Tiled window cross-attention: the backward pass, without atomics, so a launch gives the same bits every time.

With p = exp2(s - highest - lse), dP = dO v^T, delta[m] = dO[m] . out[m] and dS = p (dP - delta):

    dv = p^T dO,    dk = scale dS^T q,    dq = scale sum_windows dS k,
    dtable[r] = sum over B nW, and over all pairs (m, n) whose offset is r, of dS[m, n]

Source: FlashAttention-2 (arXiv 2307.08691), section 3.2. The table's gradient is new here and takes two steps: a
program owns one tile of (m, n), sums dS over windows in registers, in order, and stores it once; then the sums,
[splits, H, M, M] whatever the batch, are added up along offsets.

Scores start from the dense bias of `dense_kernel.py`, which is -inf past M: there p and dS are 0, so nothing here is
masked. Tokens past M repeat the last one.
"""

import triton
import triton.language as tl

from edgefel.kernels.window_cross_attention.dense_kernel import bias_rows
from edgefel.kernels.window_cross_attention.kernel import (
    base_2,
    load_tile,
    scores,
    store_tile,
    tile_tokens,
)


@triton.jit
def locate(BLOCK: tl.constexpr, H: tl.constexpr, M: tl.constexpr):
    """First token of the tile, head, and batch entry (int64) of this program. Grid: (tiles of M) * H * batch, flat."""
    TILES: tl.constexpr = (M + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    return program % TILES * BLOCK, program // TILES % H, (program // (TILES * H)).to(tl.int64)


@triton.jit
def delta_kernel(
    out_ptr, grad_ptr, delta_ptr, rows_total,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """delta [B nW, H, M] = sum over D of out * grad, both [B nW, M, H, D] contiguous. Grid: tiles of rows."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    channels = tl.arange(0, BLOCK_D)
    mask = (rows < rows_total)[:, None] & (channels < D)[None, :]
    offsets = rows[:, None] * D + channels[None, :]
    out = tl.load(out_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    head, token = rows % H, rows // H % M
    window = rows // (M * H)
    tl.store(delta_ptr + (window * H + head) * M + token, tl.sum(out * grad, 1), mask=rows < rows_total)


@triton.jit
def load_outputs(
    grad_ptr, lse_ptr, delta_ptr, window, head, tokens,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """grad [len(tokens), BLOCK_D] of one head's queries in one window; highest, lse and delta [len(tokens)] of each."""
    grad = load_tile(grad_ptr, (M * H * D, D, H * D, 1), window, head, tokens, D, BLOCK_D)
    first = (window * H + head) * M
    highest, lse = tl.load(lse_ptr + 2 * first + tokens), tl.load(lse_ptr + 2 * first + M + tokens)
    return grad, highest, lse, tl.load(delta_ptr + first + tokens)


@triton.jit
def probabilities(q, k, highest, lse, bias, scale_log2, PRECISION: tl.constexpr):
    """p [len(q), len(k)], FP32: the bits that the forward pass summed, divided by their sum."""
    s = scores(q, k, bias, scale_log2, PRECISION)
    return tl.exp2(s - highest[:, None] - lse[:, None])


@triton.jit
def score_gradient(q, k, v, grad, highest, lse, delta, bias, scale_log2, PRECISION: tl.constexpr):
    """p and dS [len(q), len(k)], FP32. bias: as in `scores`; the rest as `load_outputs` returns it."""
    p = probabilities(q, k, highest, lse, bias, scale_log2, PRECISION)
    grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
    return p, p * (grad_p - delta[:, None])


@triton.jit
def backward_kv_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, grad_ptr, lse_ptr, delta_ptr, grad_k_ptr, grad_v_ptr, scale, shared,
    q_strides, k_strides, v_strides,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, SIDE: tl.constexpr, NEED_K: tl.constexpr,
    NEED_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_N keys of one head in one window, all queries. Grid: (tiles of M) * H * (B nW).

    bias [H, SIDE, SIDE]; grad [B nW, M, H, D] contiguous; lse [B nW, H, 2, M] as
    the forward pass stored it; delta [B nW, H, M]; grad_k, grad_v [B nW, M, H, D]
    contiguous, each written where it is needed.
    """
    start, head, window = locate(BLOCK_N, H, M)
    columns, safe_columns = tile_tokens(start, BLOCK_N, M)
    k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
    scale_log2 = base_2(scale)
    if NEED_K:
        v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)

    grad_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    grad_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for first in range(0, M, BLOCK_M):
        rows, safe_rows = tile_tokens(first, BLOCK_M, M)
        bias = tl.load(bias_rows(bias_ptr, head, rows, SIDE) + columns[None, :])
        q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)
        grad, highest, lse, delta = load_outputs(
            grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, M, D, BLOCK_D
        )
        if NEED_K:
            p, ds = score_gradient(q, k, v, grad, highest, lse, delta, bias, scale_log2, PRECISION)
            grad_k = tl.dot(tl.trans(ds.to(q.dtype)), q, grad_k, input_precision=PRECISION)
        else:
            p = probabilities(q, k, highest, lse, bias, scale_log2, PRECISION)
        if NEED_V:
            grad_v = tl.dot(tl.trans(p.to(grad.dtype)), grad, grad_v, input_precision=PRECISION)

    if NEED_K:
        store_tile(grad_k_ptr, grad_k * scale, window, head, columns, H, M, D, BLOCK_D)
    if NEED_V:
        store_tile(grad_v_ptr, grad_v, window, head, columns, H, M, D, BLOCK_D)


@triton.jit
def backward_q_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, grad_ptr, lse_ptr, delta_ptr, grad_q_ptr, scale, shared, q_strides,
    k_strides, v_strides,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, SIDE: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M queries of one head of one query map, all keys of the windows that share it.

    Grid: (tiles of M) * H * B. grad_q [B, M, H, D] contiguous; the rest as in `backward_kv_kernel`.
    """
    start, head, image = locate(BLOCK_M, H, M)
    rows, safe_rows = tile_tokens(start, BLOCK_M, M)
    q = load_tile(q_ptr, q_strides, image, head, safe_rows, D, BLOCK_D)
    scale_log2 = base_2(scale)

    grad_q = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for part in range(shared):
        window = image * shared + part
        grad, highest, lse, delta = load_outputs(
            grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, M, D, BLOCK_D
        )
        for first in range(0, M, BLOCK_N):
            columns, safe_columns = tile_tokens(first, BLOCK_N, M)
            bias = tl.load(bias_rows(bias_ptr, head, rows, SIDE) + columns[None, :])
            k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
            v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)
            _, ds = score_gradient(q, k, v, grad, highest, lse, delta, bias, scale_log2, PRECISION)
            grad_q = tl.dot(ds.to(k.dtype), k, grad_q, input_precision=PRECISION)

    store_tile(grad_q_ptr, grad_q * scale, image, head, rows, H, M, D, BLOCK_D)


@triton.jit
def backward_table_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, grad_ptr, lse_ptr, delta_ptr, sums_ptr, scale, shared, windows,
    windows_per_split, q_strides, k_strides, v_strides,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, SIDE: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: dS of one tile of pairs, summed over the windows of one split, in order.

    Grid: (tiles of keys) * (tiles of queries) * H * splits, flat. sums [splits, H, M, M], FP32.
    """
    TILES_N: tl.constexpr = (M + BLOCK_N - 1) // BLOCK_N
    TILES_M: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    head = program // (TILES_N * TILES_M) % H
    split = program // (TILES_N * TILES_M * H)

    rows, safe_rows = tile_tokens(program // TILES_N % TILES_M * BLOCK_M, BLOCK_M, M)
    columns, safe_columns = tile_tokens(program % TILES_N * BLOCK_N, BLOCK_N, M)
    bias = tl.load(bias_rows(bias_ptr, head, rows, SIDE) + columns[None, :])
    scale_log2 = base_2(scale)

    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    first = split * windows_per_split
    for number in range(first, tl.minimum(first + windows_per_split, windows)):
        window = tl.full((), 0, tl.int64) + number
        q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)
        k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
        v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)
        grad, highest, lse, delta = load_outputs(
            grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, M, D, BLOCK_D
        )
        _, ds = score_gradient(q, k, v, grad, highest, lse, delta, bias, scale_log2, PRECISION)
        total += ds

    base = (split * H + head).to(tl.int64) * (M * M)
    inside = (rows < M)[:, None] & (columns < M)[None, :]
    tl.store(sums_ptr + base + rows[:, None] * M + columns[None, :], total, mask=inside)


@triton.jit
def sum_offsets_kernel(
    sums_ptr, grad_table_ptr, splits,
    H: tl.constexpr, W: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """One program: all entries of the table with one row offset. Grid: (2W-1) * H.

    sums [splits, H, M, M]; grad_table [(2W-1)^2, H] contiguous. For a row of queries r and a row offset dr the keys are
    in row r - dr; a tile holds the query columns of BLOCK_S splits against the column offsets.
    """
    M: tl.constexpr = W * W
    S: tl.constexpr = 2 * W - 1
    head = tl.program_id(0) % H
    row_offset = tl.program_id(0) // H - (W - 1)
    side = tl.arange(0, BLOCK_S * BLOCK_W)[:, None]
    part, query = side // BLOCK_W, side % BLOCK_W
    step = tl.arange(0, BLOCK_R)[None, :]
    key = query - (step - (W - 1))
    inside = (query < W) & (key >= 0) & (key < W)
    pairs = part * (H * M * M) + query * M + key
    total = tl.zeros([BLOCK_S * BLOCK_W, BLOCK_R], tl.float32)
    first, last = tl.maximum(row_offset, 0), tl.minimum(W, W + row_offset)
    for split in range(0, splits, BLOCK_S):
        base = sums_ptr + (split * H + head).to(tl.int64) * (M * M) - row_offset * W
        known = inside if BLOCK_S == 1 else inside & (part < splits - split)
        for row in range(first, last):
            total += tl.load(base + row * (W * M + W) + pairs, mask=known, other=0.0)
    entries = (row_offset + W - 1) * S + tl.arange(0, BLOCK_R)
    value = tl.sum(total, 0).to(grad_table_ptr.dtype.element_ty)
    tl.store(grad_table_ptr + entries * H + head, value, mask=tl.arange(0, BLOCK_R) < S)
