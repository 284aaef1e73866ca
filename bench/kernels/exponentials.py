"""A kernel that measures exponentials per second."""

import triton
import triton.language as tl


@triton.jit
def exponentials_kernel(out_ptr, ROUNDS: tl.constexpr, WIDTH: tl.constexpr):
    """ROUNDS dependent exp2 per element, WIDTH elements per program; values stay between -1 and 0."""
    offsets = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    value = offsets.to(tl.float32) * 1e-9
    for _ in range(ROUNDS):
        value = tl.exp2(-value)
    tl.store(out_ptr + offsets, value)
