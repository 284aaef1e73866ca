"""Tiled window cross-attention: the forward pass.

    s[m, n] = scale * q[m] . k[n] + table[pos(m) - pos(n) + centre],    pos(i) = (i // W)(2W-1) + i % W
    out[m]  = sum_n exp(s[m, n] - lse[m]) v[n],                         lse[m] = log sum_n exp(s[m, n])

Sources: online softmax, Milakov and Gimelshein (arXiv 1805.02867); tiling, FlashAttention-2 (arXiv
2307.08691); relative position bias, Swin (arXiv 2103.14030). What is ours: the bias is looked up in the
tile from the small table, so that no M x M array exists, and queries shared by the windows of an image are
read where they are.

Tails: rows and columns past M repeat the last one, so that no load needs a mask; columns past M get -inf
(probability 0), rows past M are not stored. Channels past D hold 0.
"""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def offset_position(index, W: tl.constexpr):
    """A position in the window as one number: differences of two are offsets into the bias table."""
    return index // W * (2 * W - 1) + index % W


@triton.jit
def load_rows(base, rows, columns, stride_row, stride_column, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """base[rows, columns] as [len(rows), BLOCK_D]; channels past D are 0."""
    pointers = base + rows[:, None] * stride_row + columns[None, :] * stride_column
    if BLOCK_D == D:
        return tl.load(pointers)
    return tl.load(pointers, mask=columns[None, :] < D, other=0.0)


@triton.jit
def scores(
    q, k, table, position_q, position_k, stride_table, scale, W: tl.constexpr, PRECISION: tl.constexpr
):
    """scale * q k^T + bias [len(q), len(k)], FP32."""
    CENTRE: tl.constexpr = (W - 1) * 2 * W
    bias = tl.load(table + (position_q[:, None] - position_k[None, :] + CENTRE) * stride_table)
    product = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    return product * scale + bias.to(tl.float32)


@triton.jit
def forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    out_ptr,
    lse_ptr,
    scale,
    shared,
    stride_qb,
    stride_qh,
    stride_qm,
    stride_qd,
    stride_kb,
    stride_kh,
    stride_km,
    stride_kd,
    stride_vb,
    stride_vh,
    stride_vm,
    stride_vd,
    stride_tr,
    stride_th,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STORE_LSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BLOCK_M queries of one head in one window. Grid: (tiles of M) * H * (B nW), flat.

    q [B, H, M, D] with `shared` = nW windows to a query map; k, v [B nW, H, M, D]; table [(2W-1)^2, H];
    out [B nW, M, H D] contiguous; lse [B nW, H, M] contiguous, FP32, natural logarithm.
    """
    M: tl.constexpr = W * W
    TILES: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    tile = program % TILES
    head = program // TILES % H
    window = (program // (TILES * H)).to(tl.int64)

    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    safe_rows = tl.minimum(rows, M - 1)
    channels = tl.arange(0, BLOCK_D)
    q_base = q_ptr + window // shared * stride_qb + head * stride_qh
    k_base = k_ptr + window * stride_kb + head * stride_kh
    v_base = v_ptr + window * stride_vb + head * stride_vh
    table = table_ptr + head * stride_th
    q = load_rows(q_base, safe_rows, channels, stride_qm, stride_qd, D, BLOCK_D)
    position_q = offset_position(safe_rows, W)

    highest = tl.full([BLOCK_M], -float("inf"), tl.float32)  # running maximum, in units of log 2
    total = tl.zeros([BLOCK_M], tl.float32)
    accumulator = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, M, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        safe_columns = tl.minimum(columns, M - 1)
        k = load_rows(k_base, safe_columns, channels, stride_km, stride_kd, D, BLOCK_D)
        position_k = offset_position(safe_columns, W)
        s = scores(q, k, table, position_q, position_k, stride_tr, scale, W, PRECISION)
        if M % BLOCK_N != 0:
            s = tl.where(columns[None, :] < M, s, -float("inf"))
        new_highest = tl.maximum(highest, tl.max(s, 1) * LOG2E)
        p = tl.exp2(s * LOG2E - new_highest[:, None])
        correction = tl.exp2(highest - new_highest)
        total = total * correction + tl.sum(p, 1)
        v = load_rows(v_base, safe_columns, channels, stride_vm, stride_vd, D, BLOCK_D)
        accumulator = accumulator * correction[:, None]
        accumulator = tl.dot(p.to(v.dtype), v, accumulator, input_precision=PRECISION)
        highest = new_highest

    out = accumulator / total[:, None]
    inside = rows < M
    out_rows = out_ptr + window * (M * H * D) + head * D
    pointers = out_rows + rows[:, None] * (H * D) + channels[None, :]
    mask = inside[:, None] & (channels[None, :] < D)
    tl.store(pointers, out.to(out_ptr.dtype.element_ty), mask=mask)
    if STORE_LSE:
        lse = (highest + tl.log2(total)) / LOG2E
        tl.store(lse_ptr + (window * H + head) * M + rows, lse, mask=inside)
