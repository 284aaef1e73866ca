"""Tiled window cross-attention: the backward pass, without atomics, so results are bitwise reproducible.

With p = exp(s - lse), dP = dO v^T, delta[m] = dO[m] . out[m] and dS = p (dP - delta):

    dv = p^T dO,    dk = scale dS^T q,    dq = scale sum_windows dS k,
    dtable[r] = sum over B nW, and over all pairs (m, n) whose offset is r, of dS[m, n]

Source: FlashAttention-2 (arXiv 2307.08691), section 3.2. The table's gradient is new here and takes two steps: a
program owns one tile of (m, n), sums dS over windows in registers, in order, and stores it once; then the sums,
[splits, H, M, M] whatever the batch, are added up along offsets.

Tails as in the forward pass; queries past M get p = 0.
"""

import triton
import triton.language as tl

from edgefel.kernels.window_cross_attention.kernel import (
    LOG2E,
    load_tile,
    locate,
    scores,
    store_tile,
    tile_tokens,
)


@triton.jit
def delta_kernel(
    out_ptr,
    grad_ptr,
    delta_ptr,
    rows_total,
    H: tl.constexpr,
    M: tl.constexpr,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
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
    grad_ptr,
    lse_ptr,
    delta_ptr,
    window,
    head,
    tokens,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """grad [len(tokens), BLOCK_D], lse and delta [len(tokens)] of one head's queries in one window."""
    grad = load_tile(grad_ptr, (W * W * H * D, D, H * D, 1), window, head, tokens, D, BLOCK_D)
    first = (window * H + head) * (W * W)
    return grad, tl.load(lse_ptr + first + tokens), tl.load(delta_ptr + first + tokens)


@triton.jit
def score_gradient(
    q, k, v, outputs, inside, table, rows, columns, stride, scale, W: tl.constexpr, PRECISION: tl.constexpr
):
    """p and dS [len(q), len(k)], FP32, where `inside`, else 0. outputs: of `load_outputs`; the rest as in `scores`."""
    grad, lse, delta = outputs
    s = scores(q, k, table, rows, columns, stride, scale, W, PRECISION)
    p = tl.exp2((s - lse[:, None]) * LOG2E)
    p = tl.where(inside, p, 0.0)
    grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
    return p, p * (grad_p - delta[:, None])


@triton.jit
def backward_kv_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    grad_k_ptr,
    grad_v_ptr,
    scale,
    shared,
    q_strides,
    k_strides,
    v_strides,
    table_strides,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BLOCK_N keys of one head in one window, all queries. Grid: (tiles of M) * H * (B nW).

    grad [B nW, M, H, D] contiguous; lse, delta [B nW, H, M]; grad_k, grad_v [B nW, M, H, D] contiguous.
    """
    tile, head, window = locate(BLOCK_N, H, W)
    columns, safe_columns = tile_tokens(tile * BLOCK_N, BLOCK_N, W)
    table = table_ptr + head * table_strides[1]
    k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
    v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)

    grad_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    grad_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for start in range(0, W * W, BLOCK_M):
        rows, safe_rows = tile_tokens(start, BLOCK_M, W)
        q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)
        outputs = load_outputs(grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, W, D, BLOCK_D)
        inside = (rows < W * W)[:, None]
        p, ds = score_gradient(
            q, k, v, outputs, inside, table, safe_rows, safe_columns, table_strides[0], scale, W, PRECISION
        )
        grad_v = tl.dot(tl.trans(p.to(outputs[0].dtype)), outputs[0], grad_v, input_precision=PRECISION)
        grad_k = tl.dot(tl.trans(ds.to(q.dtype)), q, grad_k, input_precision=PRECISION)

    store_tile(grad_k_ptr, grad_k * scale, window, head, columns, H, W, D, BLOCK_D)
    store_tile(grad_v_ptr, grad_v, window, head, columns, H, W, D, BLOCK_D)


@triton.jit
def backward_q_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    grad_q_ptr,
    scale,
    shared,
    q_strides,
    k_strides,
    v_strides,
    table_strides,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BLOCK_M queries of one head of one query map, all keys of the windows that share it.

    Grid: (tiles of M) * H * B. grad_q [B, M, H, D] contiguous; the rest as in `backward_kv_kernel`.
    """
    tile, head, image = locate(BLOCK_M, H, W)
    rows, safe_rows = tile_tokens(tile * BLOCK_M, BLOCK_M, W)
    table, stride = table_ptr + head * table_strides[1], table_strides[0]
    q = load_tile(q_ptr, q_strides, image, head, safe_rows, D, BLOCK_D)

    grad_q = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for part in range(shared):
        window = image * shared + part
        outputs = load_outputs(grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, W, D, BLOCK_D)
        for start in range(0, W * W, BLOCK_N):
            columns, safe_columns = tile_tokens(start, BLOCK_N, W)
            k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
            v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)
            inside = (columns < W * W)[None, :]
            _, ds = score_gradient(
                q, k, v, outputs, inside, table, safe_rows, safe_columns, stride, scale, W, PRECISION
            )
            grad_q = tl.dot(ds.to(k.dtype), k, grad_q, input_precision=PRECISION)

    store_tile(grad_q_ptr, grad_q * scale, image, head, rows, H, W, D, BLOCK_D)


@triton.jit
def backward_bias_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    sums_ptr,
    scale,
    shared,
    windows,
    windows_per_split,
    q_strides,
    k_strides,
    v_strides,
    table_strides,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: dS of one tile of pairs, summed over the windows of one split, in order.

    Grid: (tiles of keys) * (tiles of queries) * H * splits, flat. sums [splits, H, M, M], FP32.
    """
    M: tl.constexpr = W * W
    TILES_N: tl.constexpr = (M + BLOCK_N - 1) // BLOCK_N
    TILES_M: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    tile_n = program % TILES_N
    tile_m = program // TILES_N % TILES_M
    head = program // (TILES_N * TILES_M) % H
    split = program // (TILES_N * TILES_M * H)

    rows, safe_rows = tile_tokens(tile_m * BLOCK_M, BLOCK_M, W)
    columns, safe_columns = tile_tokens(tile_n * BLOCK_N, BLOCK_N, W)
    table = table_ptr + head * table_strides[1]
    inside = (rows < M)[:, None] & (columns < M)[None, :]

    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    first = split * windows_per_split
    for number in range(first, tl.minimum(first + windows_per_split, windows)):
        window = tl.full((), 0, tl.int64) + number
        q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)
        k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
        v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)
        outputs = load_outputs(grad_ptr, lse_ptr, delta_ptr, window, head, safe_rows, H, W, D, BLOCK_D)
        _, ds = score_gradient(
            q, k, v, outputs, inside, table, safe_rows, safe_columns, table_strides[0], scale, W, PRECISION
        )
        total += ds

    base = (split * H + head).to(tl.int64) * (M * M)
    tl.store(sums_ptr + base + rows[:, None] * M + columns[None, :], total, mask=inside)


@triton.jit
def sum_offsets_kernel(
    sums_ptr,
    grad_table_ptr,
    splits,
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """One program: all entries of the table with one row offset. Grid: (2W-1) * H.

    sums [splits, H, M, M]; grad_table [(2W-1)^2, H] contiguous, FP32. For a row of queries r and a row
    offset dr the keys are in row r - dr; a tile holds the query columns against the column offsets.
    """
    M: tl.constexpr = W * W
    S: tl.constexpr = 2 * W - 1
    head = tl.program_id(0) % H
    row_offset = tl.program_id(0) // H - (W - 1)
    query = tl.arange(0, BLOCK_W)[:, None]
    step = tl.arange(0, BLOCK_R)[None, :]
    key = query - (step - (W - 1))
    inside = (query < W) & (key >= 0) & (key < W)
    total = tl.zeros([BLOCK_W, BLOCK_R], tl.float32)
    first, last = tl.maximum(row_offset, 0), tl.minimum(W, W + row_offset)
    for split in range(splits):
        base = sums_ptr + (split * H + head).to(tl.int64) * (M * M)
        for row in range(first, last):
            pairs = (row * W + query) * M + (row - row_offset) * W + key
            total += tl.load(base + pairs, mask=inside, other=0.0)
    entries = (row_offset + W - 1) * S + tl.arange(0, BLOCK_R)
    tl.store(grad_table_ptr + entries * H + head, tl.sum(total, 0), mask=tl.arange(0, BLOCK_R) < S)
