"""Tiled window cross-attention: the forward pass.

    s[m, n] = scale * q[m] . k[n] + table[pos(m) - pos(n) + centre],    pos(i) = (i // W)(2W-1) + i % W
    out[m]  = sum_n exp(s[m, n] - lse[m]) v[n],                         lse[m] = log sum_n exp(s[m, n])

Sources: online softmax, Milakov and Gimelshein (arXiv 1805.02867); tiling, FlashAttention-2 (arXiv 2307.08691);
relative position bias, Swin (arXiv 2103.14030). New here: the bias is looked up in the small table per tile, so no
M x M array exists, and queries shared by the windows of an image are read in place.

Tails: tokens past M repeat the last one, so loads need no mask; keys past M get -inf (probability 0), queries past M
are not stored. Channels past D hold 0.
"""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def locate(BLOCK: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Tile of tokens, head, and batch entry (int64) of this program. Grid: (tiles of M) * H * batch, flat."""
    TILES: tl.constexpr = (W * W + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    return program % TILES, program // TILES % H, (program // (TILES * H)).to(tl.int64)


@triton.jit
def tile_tokens(start, BLOCK: tl.constexpr, W: tl.constexpr):
    """BLOCK token numbers from `start`, and the same clamped to the window."""
    tokens = start + tl.arange(0, BLOCK)
    return tokens, tl.minimum(tokens, W * W - 1)


@triton.jit
def offset_position(token, W: tl.constexpr):
    """Row and column of a token as one number: differences of two are offsets into the bias table."""
    return token // W * (2 * W - 1) + token % W


@triton.jit
def load_tile(ptr, strides, batch, head, tokens, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """x[batch, head, tokens] of x [.., H, M, D] with `strides`, as [len(tokens), BLOCK_D]; channels past D are 0."""
    channels = tl.arange(0, BLOCK_D)
    base = ptr + batch * strides[0] + head * strides[1]
    pointers = base + tokens[:, None] * strides[2] + channels[None, :] * strides[3]
    if BLOCK_D == D:
        return tl.load(pointers)
    return tl.load(pointers, mask=channels[None, :] < D, other=0.0)


@triton.jit
def store_tile(
    ptr, value, batch, head, tokens, H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Stores `value` [len(tokens), BLOCK_D] into x[batch, tokens, head] of a contiguous x [.., M, H, D]."""
    channels = tl.arange(0, BLOCK_D)
    offsets = batch * (W * W * H * D) + head * D + tokens[:, None] * (H * D) + channels[None, :]
    mask = (tokens < W * W)[:, None] & (channels < D)[None, :]
    tl.store(ptr + offsets, value.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def scores(q, k, table, rows, columns, stride, scale, W: tl.constexpr, PRECISION: tl.constexpr):
    """scale * q k^T + bias [len(q), len(k)], FP32, of the tokens `rows` and `columns`.

    table: one head's biases, `stride` apart.
    """
    CENTRE: tl.constexpr = (W - 1) * 2 * W
    position_q, position_k = offset_position(rows, W), offset_position(columns, W)
    bias = tl.load(table + (position_q[:, None] - position_k[None, :] + CENTRE) * stride)
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
    STORE_LSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BLOCK_M queries of one head in one window. Grid: (tiles of M) * H * (B nW), flat.

    q [B, H, M, D] with `shared` = nW windows to a query map; k, v [B nW, H, M, D]; table [(2W-1)^2, H]; strides are
    tuples. out [B nW, M, H D] contiguous; lse [B nW, H, M] contiguous, FP32, natural logarithm.
    """
    M: tl.constexpr = W * W
    tile, head, window = locate(BLOCK_M, H, W)
    rows, safe_rows = tile_tokens(tile * BLOCK_M, BLOCK_M, W)
    table = table_ptr + head * table_strides[1]
    q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)

    highest = tl.full([BLOCK_M], -float("inf"), tl.float32)  # running maximum, in units of log 2
    total = tl.zeros([BLOCK_M], tl.float32)
    accumulator = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, M, BLOCK_N):
        columns, safe_columns = tile_tokens(start, BLOCK_N, W)
        k = load_tile(k_ptr, k_strides, window, head, safe_columns, D, BLOCK_D)
        s = scores(q, k, table, safe_rows, safe_columns, table_strides[0], scale, W, PRECISION)
        if M % BLOCK_N != 0:
            s = tl.where(columns[None, :] < M, s, -float("inf"))
        new_highest = tl.maximum(highest, tl.max(s, 1) * LOG2E)
        p = tl.exp2(s * LOG2E - new_highest[:, None])
        correction = tl.exp2(highest - new_highest)
        total = total * correction + tl.sum(p, 1)
        v = load_tile(v_ptr, v_strides, window, head, safe_columns, D, BLOCK_D)
        accumulator = accumulator * correction[:, None]
        accumulator = tl.dot(p.to(v.dtype), v, accumulator, input_precision=PRECISION)
        highest = new_highest

    store_tile(out_ptr, accumulator / total[:, None], window, head, rows, H, W, D, BLOCK_D)
    if STORE_LSE:
        lse = (highest + tl.log2(total)) / LOG2E
        tl.store(lse_ptr + (window * H + head) * M + rows, lse, mask=rows < M)
