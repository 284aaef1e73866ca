"""Tiled window cross-attention: loads, stores and softmax of all passes, and the row-aligned forward pass.

    s[m, n] = scale * q[m] . k[n] + table[pos(m) - pos(n) + centre],    pos(i) = (i // W)(2W-1) + i % W
    out[m]  = sum_n exp(s[m, n] - lse[m]) v[n],                         lse[m] = log sum_n exp(s[m, n])

Sources: online softmax, Milakov and Gimelshein (arXiv 1805.02867); tiling, FlashAttention-2 (arXiv 2307.08691);
relative position bias, Swin (arXiv 2103.14030). New here: a tile of keys is whole rows of the window, so the offsets
into the bias table are the same for every tile and only the table's address moves; and queries shared by the windows
of an image are read in place.

Scores are kept in base 2, as log2(e) s: one fused multiply-add of a product, `scale_log2` = scale log2(e), and
log2(e) bias. The backward pass repeats it, so that a probability of 1 is 1 at any size of score.

Tails: tokens past M repeat the last one, so loads need no mask; their scores are -inf (probability 0). Queries past M
are not stored. Channels past D hold 0. A tile whose scores are all -inf adds nothing; a query that has no other gets
NaN, as in PyTorch.
"""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def tile_tokens(start, BLOCK: tl.constexpr, M: tl.constexpr):
    """BLOCK token numbers from `start`, and the same clamped to the window's M."""
    tokens = start + tl.arange(0, BLOCK)
    return tokens, tl.minimum(tokens, M - 1)


@triton.jit
def offset_position(token, W: tl.constexpr):
    """Row and column of a token as one number: differences of two are offsets into the bias table."""
    return token // W * (2 * W - 1) + token % W


@triton.jit
def tile_offsets(strides, batch, head, tokens, BLOCK_D: tl.constexpr):
    """Where x[batch, head, tokens] of x [.., H, M, D] with `strides` is, as [len(tokens), BLOCK_D], int64.

    A view may have strides so large that their products leave int32.
    """
    channels = tl.arange(0, BLOCK_D).to(tl.int64)
    first = tl.full((), 0, tl.int64) + batch
    number = tl.full((), 0, tl.int64) + head
    base = first * strides[0] + number * strides[1]
    return base + tokens.to(tl.int64)[:, None] * strides[2] + channels[None, :] * strides[3]


@triton.jit
def load_channels(pointers, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """A tile [.., BLOCK_D]; channels past D are 0."""
    if BLOCK_D == D:
        return tl.load(pointers)
    return tl.load(pointers, mask=tl.arange(0, BLOCK_D)[None, :] < D, other=0.0)


@triton.jit
def load_tile(ptr, strides, batch, head, tokens, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """x[batch, head, tokens] of x [.., H, M, D] with `strides`, as [len(tokens), BLOCK_D]; channels past D are 0."""
    return load_channels(ptr + tile_offsets(strides, batch, head, tokens, BLOCK_D), D, BLOCK_D)


@triton.jit
def store_tile(
    ptr, value, batch, head, tokens, H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Stores `value` [len(tokens), BLOCK_D] into x[batch, tokens, head] of a contiguous x [.., M, H, D]."""
    channels = tl.arange(0, BLOCK_D)
    start = (tl.full((), 0, tl.int64) + batch) * (M * H * D) + head * D
    offsets = start + tokens[:, None] * (H * D) + channels[None, :]
    mask = (tokens < M)[:, None] & (channels < D)[None, :]
    tl.store(ptr + offsets, value.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def base_2(scale):
    """`scale_log2`: scale log2(e), FP32."""
    return tl.full((), LOG2E, tl.float32) * scale


@triton.jit
def scores(q, k, bias, scale_log2, PRECISION: tl.constexpr):
    """scale_log2 q k^T + bias [len(q), len(k)], FP32, base 2. bias: [len(q), len(k)], times log2(e)."""
    product = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    return tl.fma(product, tl.zeros_like(product) + scale_log2, bias.to(tl.float32))


@triton.jit
def begin(s, v, PRECISION: tl.constexpr):
    """Softmax over the first tile of keys: highest score, sum of probabilities, weighted sum of v."""
    highest = tl.max(s, 1)
    p = tl.exp2(s - tl.where(highest == -float("inf"), 0.0, highest)[:, None])
    return highest, tl.sum(p, 1), tl.dot(p.to(v.dtype), v, input_precision=PRECISION)


@triton.jit
def accumulate(s, v, highest, total, accumulator, PRECISION: tl.constexpr):
    """Adds a tile of keys to what `begin` returned."""
    new_highest = tl.maximum(highest, tl.max(s, 1))
    # a query without keys so far: nothing to scale, and no NaN
    shift = tl.where(new_highest == -float("inf"), 0.0, new_highest)
    p = tl.exp2(s - shift[:, None])
    correction = tl.exp2(highest - shift)
    total = total * correction + tl.sum(p, 1)
    accumulator = accumulator * correction[:, None]
    accumulator = tl.dot(p.to(v.dtype), v, accumulator, input_precision=PRECISION)
    return new_highest, total, accumulator


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, out_ptr, scale, shared, q_strides, k_strides, v_strides, table_strides,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M queries of one head in one window. Grid: (tiles of M) * H * (B nW), flat.

    q [B, H, M, D] with `shared` = nW windows to a query map; k, v [B nW, H, M, D]; table [(2W-1)^2, H]; strides are
    tuples. out [B nW, M, H D] contiguous. A tile of keys is ROWS rows, a divisor of W.
    """
    M: tl.constexpr = W * W
    KEYS: tl.constexpr = ROWS * W
    TILES: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    program = tl.program_id(0)
    head, window = program // TILES % H, program // (TILES * H)
    rows, safe_rows = tile_tokens(program % TILES * BLOCK_M, BLOCK_M, M)
    columns, safe_columns = tile_tokens(0, BLOCK_N, KEYS)

    q = load_tile(q_ptr, q_strides, window // shared, head, safe_rows, D, BLOCK_D)
    k_pointers = k_ptr + tile_offsets(k_strides, window, head, safe_columns, BLOCK_D)
    v_pointers = v_ptr + tile_offsets(v_strides, window, head, safe_columns, BLOCK_D)
    centre = (W - 1) * 2 * W - (W - ROWS) * (2 * W - 1)
    offsets = offset_position(safe_rows, W)[:, None] - offset_position(safe_columns, W)[None, :] + centre
    table = table_ptr + (tl.full((), 0, tl.int64) + head) * table_strides[1]
    offsets = offsets * table_strides[0]
    scale_log2 = base_2(scale)

    highest = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    accumulator = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    # from the last keys to the first, and by a counter of tiles: so the compiler adds one offset to one address
    for tile in range(W // ROWS):
        bias = tl.load(table + tile * (ROWS * (2 * W - 1)) * table_strides[0] + offsets)
        keys = (tl.full((), 0, tl.int64) + (W // ROWS - 1 - tile)) * KEYS
        k = load_channels(k_pointers + keys * k_strides[2], D, BLOCK_D)
        v = load_channels(v_pointers + keys * v_strides[2], D, BLOCK_D)
        s = scores(q, k, bias.to(tl.float32) * LOG2E, scale_log2, PRECISION)
        if KEYS != BLOCK_N:
            s = tl.where(columns[None, :] < KEYS, s, -float("inf"))
        highest, total, accumulator = accumulate(s, v, highest, total, accumulator, PRECISION)

    store_tile(out_ptr, accumulator / total[:, None], window, head, rows, H, M, D, BLOCK_D)


@triton.jit
def joint_kernel(
    q_ptr,
    kv_ptr,
    table_ptr,
    out_ptr,
    scale,
    q_strides,
    kv_strides,
    table_strides,
    H: tl.constexpr,
    W: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`forward_kernel` for keys and values of one projection, kv [B nW, M, 2, H, D], and a query map per window."""
    forward_kernel(
        q_ptr,
        kv_ptr,
        kv_ptr + H * D,
        table_ptr,
        out_ptr,
        scale,
        1,
        q_strides,
        kv_strides,
        kv_strides,
        table_strides,
        H,
        W,
        D,
        ROWS,
        BLOCK_M,
        BLOCK_N,
        BLOCK_D,
        PRECISION,
    )
