"""Kernels whose instructions are known, compiled and counted; prints JSON.

A program of its own, since Triton's interpreter, which the tests use, compiles nothing: `python counted_kernels.py 90`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import triton
import triton.language as tl

from edgefel.bench.kernels.model.count import Plan, count
from edgefel.bench.kernels.model.sass import BYTES, disassemble, find_loops
from edgefel.kernels.ahead_of_time.compiler import compile_kernel
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec

WARPS, LANES = 4, 128
# fused multiply-adds in a row
N = 24


@triton.jit
def straight(x_ptr, n_ptr, out_ptr, N: tl.constexpr):
    """N per element, without a loop."""
    place = tl.program_id(0) * 128 + tl.arange(0, 128)
    x = tl.load(x_ptr + place)
    v = x
    for _ in tl.static_range(N):
        v = v * x + 0.5
    tl.store(out_ptr + place, v)


@triton.jit
def looped(x_ptr, n_ptr, out_ptr, N: tl.constexpr):
    """N per element and iteration; the number of iterations is only known when it runs."""
    place = tl.program_id(0) * 128 + tl.arange(0, 128)
    x = tl.load(x_ptr + place)
    v = x
    for _ in range(tl.load(n_ptr)):
        for _ in tl.static_range(N):
            v = v * x + 0.5
    tl.store(out_ptr + place, v)


@triton.jit
def nested(x_ptr, n_ptr, out_ptr, N: tl.constexpr):
    """As `looped`, around which another loop loads and stores."""
    for row in range(tl.load(n_ptr + 1)):
        place = row * 128 + tl.arange(0, 128)
        x = tl.load(x_ptr + place)
        v = x
        for _ in range(tl.load(n_ptr)):
            for _ in tl.static_range(N):
                v = v * x + 0.5
        tl.store(out_ptr + place, v)


@triton.jit
def predicated(x_ptr, n_ptr, out_ptr, N: tl.constexpr):
    """As `looped`; half of the elements are stored in every iteration, by a predicate."""
    place = tl.program_id(0) * 128 + tl.arange(0, 128)
    x = tl.load(x_ptr + place)
    v = x
    for number in range(tl.load(n_ptr)):
        for _ in tl.static_range(N):
            v = v * x + 0.5
        tl.store(out_ptr + number * 128 + place, v, mask=x > 0)


@triton.jit
def unrolled(x_ptr, n_ptr, out_ptr, N: tl.constexpr):
    """As `looped`, four iterations in one, and what is left behind them in a loop of its own."""
    place = tl.program_id(0) * 128 + tl.arange(0, 128)
    x = tl.load(x_ptr + place)
    v = x
    for _ in tl.range(tl.load(n_ptr), loop_unroll_factor=4):
        for _ in tl.static_range(N):
            v = v * x + 0.5
    tl.store(out_ptr + place, v)


# trips of a plan; one per loop
TRIPS = {straight: (), looped: (40,), nested: (10, 40), predicated: (40,), unrolled: (40,)}


def counted(function: triton.JITFunction, length: int, arch: int) -> dict[str, object]:
    pointers = (Argument("x_ptr", "fp32", ""), Argument("n_ptr", "i32", ""), Argument("out_ptr", "fp32", ""))
    name = function.fn.__name__
    spec = KernelSpec(name, "counted_kernels", name, pointers, {"N": length}, 1, WARPS, 1)
    kernel = compile_kernel(spec, arch)
    code = disassemble(kernel.cubin, kernel.entry, Path(triton.knobs.nvidia.cuobjdump.path))
    plan = Plan("step", 400 * LANES, 1, WARPS, LANES, TRIPS[function], 0, 0, "ffma", length)
    found = count(code, plan)
    loops = [loop for loop in find_loops(code) if len(loop.addresses) > 6]
    inner = [Counter(code[address // BYTES].base for address in loop.addresses) for loop in loops]
    return {
        "name": name,
        "length": length,
        "arch": arch,
        "instructions": len(code),
        "ffma": sum(one.base == "FFMA" for one in code),
        "loops": [dict(each) for each in inner],
        "by_pipe": found.by_pipe,
        "per_unit": found.per_unit,
        "loop_units": found.loop_units,
        "executed_ffma": sum(times for one, times in found.executed.items() if one.base == "FFMA"),
    }


if __name__ == "__main__":
    sys.modules["counted_kernels"] = sys.modules["__main__"]
    rows = [
        counted(one, length, int(arch)) for arch in sys.argv[1:] for one in TRIPS for length in (N, 2 * N)
    ]
    print(json.dumps(rows))
