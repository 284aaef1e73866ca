"""Tiled window cross-attention with a dense bias that stays in place: the forward pass of a batch of windows.

The bias of all pairs is written once to a square array; a program keeps one tile of queries of one head and goes
through windows, so that the same part of the array is read again. See `kernel.py` for the rest.
"""

import triton
import triton.language as tl

from edgefel.kernels.window_cross_attention.kernel import (
    LOG2E,
    accumulate,
    base_2,
    begin,
    load_channels,
    offset_position,
    scores,
    store_tile,
    tile_offsets,
    tile_tokens,
)


@triton.jit
def bias_kernel(table_ptr, bias_ptr, table_strides, W: tl.constexpr, SIDE: tl.constexpr, BLOCK: tl.constexpr):
    """bias [H, SIDE, SIDE] = log2(e) table[offset(m, n)], FP16 or FP32; -inf past M = W^2. Grid: SIDE^2 / BLOCK, H.

    What FP16 does not hold becomes its largest number: that is far beyond what a softmax tells apart.
    """
    M: tl.constexpr = W * W
    head = tl.full((), 0, tl.int64) + tl.program_id(1)
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m, n = pair // SIDE, pair % SIDE
    offset = offset_position(m, W) - offset_position(n, W) + (W - 1) * 2 * W
    table = table_ptr + head * table_strides[1] + offset.to(tl.int64) * table_strides[0]
    entry = tl.load(table, mask=(m < M) & (n < M), other=-float("inf")).to(tl.float32) * LOG2E
    if bias_ptr.dtype.element_ty == tl.float16:
        clamped = tl.minimum(tl.maximum(entry, -65504.0), 65504.0)
        entry = tl.where((tl.abs(entry) == float("inf")) | (entry != entry), entry, clamped)
    tl.store(bias_ptr + head * (SIDE * SIDE) + pair, entry.to(bias_ptr.dtype.element_ty))


@triton.jit
def bias_rows(bias_ptr, head, rows, SIDE: tl.constexpr):
    """Where the rows of a head's bias begin in [H, SIDE, SIDE], as [len(rows), 1]."""
    return bias_ptr + (tl.full((), 0, tl.int64) + head) * (SIDE * SIDE) + rows[:, None] * SIDE


@triton.jit
def begin_window(
    q_pointers, k_pointers, v_pointers, bias, scale_log2,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of queries, and what `begin` makes of its first tile of keys."""
    q, k = load_channels(q_pointers, D, BLOCK_D), load_channels(k_pointers, D, BLOCK_D)
    v = load_channels(v_pointers, D, BLOCK_D)
    highest, total, accumulator = begin(scores(q, k, bias, scale_log2, PRECISION), v, PRECISION)
    return q, highest, total, accumulator


@triton.jit
def add_keys(
    q, k_pointers, v_pointers, bias, scale_log2, highest, total, accumulator,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds another tile of keys to what `begin` returned."""
    k, v = load_channels(k_pointers, D, BLOCK_D), load_channels(v_pointers, D, BLOCK_D)
    s = scores(q, k, bias, scale_log2, PRECISION)
    return accumulate(s, v, highest, total, accumulator, PRECISION)


@triton.jit
def finish(
    out_ptr, lse_ptr, highest, total, accumulator, window, head, rows,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, STORE_LSE: tl.constexpr,
):  # fmt: skip
    """Stores a tile's result, and for the backward pass lse [B nW, H, 2, M], FP32, base 2, in two parts.

    They are the highest score and log2 of the sum of exp2(score - highest): rounded to one number, the second would
    be lost in large scores.
    """
    store_tile(out_ptr, accumulator / total[:, None], window, head, rows, H, M, D, BLOCK_D)
    if STORE_LSE:
        first = ((tl.full((), 0, tl.int64) + window) * H + head) * (2 * M)
        tl.store(lse_ptr + first + rows, highest, mask=rows < M)
        tl.store(lse_ptr + first + M + rows, tl.log2(total), mask=rows < M)


@triton.jit
def dense_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, out_ptr, lse_ptr, scale, shared, windows, parts, q_strides, k_strides,
    v_strides,
    H: tl.constexpr, M: tl.constexpr, D: tl.constexpr, SIDE: tl.constexpr, PAIR: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    STORE_LSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M queries of one head, in every `parts`-th window, or pair of windows that share bias tiles.

    Grid: (tiles of M) * H * parts, flat. bias: of `bias_kernel`; `windows` = B nW; the rest as in `forward_kernel`.
    Keys of the last tile, of BLOCK_T, come first, so that the others need no mask; its bias stays in registers.
    """
    TILES: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    MAIN: tl.constexpr = (M - 1) // BLOCK_N * BLOCK_N
    program = tl.program_id(0)
    head, part = program // TILES % H, program // (TILES * H)
    rows, safe_rows = tile_tokens(program % TILES * BLOCK_M, BLOCK_M, M)
    columns, _ = tile_tokens(0, BLOCK_N, M)
    tail, safe_tail = tile_tokens(MAIN, BLOCK_T, M)
    scale_log2 = base_2(scale)

    bias = bias_rows(bias_ptr, head, rows, SIDE)
    tail_bias = tl.load(bias + tail[None, :])
    q_first = q_ptr + tile_offsets(q_strides, 0, head, safe_rows, BLOCK_D)
    k_tail = k_ptr + tile_offsets(k_strides, 0, head, safe_tail, BLOCK_D)
    v_tail = v_ptr + tile_offsets(v_strides, 0, head, safe_tail, BLOCK_D)
    k_main = k_ptr + tile_offsets(k_strides, 0, head, columns, BLOCK_D)
    v_main = v_ptr + tile_offsets(v_strides, 0, head, columns, BLOCK_D)
    STEP: tl.constexpr = 2 if PAIR else 1
    for number in range(part * STEP, windows, parts * STEP):
        one = tl.full((), 0, tl.int64) + number
        # an odd window out is computed twice
        two = tl.minimum(one + 1, windows - 1)
        q, best, total, acc = begin_window(
            q_first + one // shared * q_strides[0], k_tail + one * k_strides[0], v_tail + one * v_strides[0],
            tail_bias, scale_log2, D, BLOCK_D, PRECISION,
        )  # fmt: skip
        if PAIR:
            q2, best2, total2, acc2 = begin_window(
                q_first + two // shared * q_strides[0], k_tail + two * k_strides[0], v_tail + two * v_strides[0],
                tail_bias, scale_log2, D, BLOCK_D, PRECISION,
            )  # fmt: skip
        for start in range(0, MAIN, BLOCK_N):
            b = tl.load(bias + start + columns[None, :])
            first = tl.full((), 0, tl.int64) + start
            k, v = k_main + first * k_strides[2], v_main + first * v_strides[2]
            best, total, acc = add_keys(q, k + one * k_strides[0], v + one * v_strides[0], b, scale_log2,
                                        best, total, acc, D, BLOCK_D, PRECISION)  # fmt: skip
            if PAIR:
                best2, total2, acc2 = add_keys(q2, k + two * k_strides[0], v + two * v_strides[0], b, scale_log2,
                                              best2, total2, acc2, D, BLOCK_D, PRECISION)  # fmt: skip
        finish(out_ptr, lse_ptr, best, total, acc, one, head, rows, H, M, D, BLOCK_D, STORE_LSE)
        if PAIR:
            finish(out_ptr, lse_ptr, best2, total2, acc2, two, head, rows, H, M, D, BLOCK_D, STORE_LSE)
