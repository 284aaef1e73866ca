"""The fused kernels against others on this GPU, outputs checked first; without a GPU, what they need of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgefel import __version__
from edgefel.bench.kernels import competitors
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.timer import Timing
from edgefel.errors import EdgefelError
from edgefel.kernels.backend import FLOAT_TYPES

# largest relative root-mean-square error of a result, by the type it was computed in
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}

Run = Callable[[], tuple[Tensor, ...]]
Timer = Callable[[Mapping[str, Callable[[], Any]]], dict[str, Timing]]
Memory = Callable[[Callable[[], Any]], int]


@dataclass(frozen=True)
class KernelRow:
    """One implementation of one problem; `note` gives the reason for missing numbers.

    ms_p50, ms_p90; gb_per_s, tflop_per_s: of the unavoidable work; roofline: share of the lower bound, 0..1,
    None without ceilings; extra_mb: peak memory beyond the inputs, 10^6 bytes; error: largest relative RMS.
    """

    op: str
    problem: str
    batch: int
    dtype: str
    mode: str
    implementation: str
    ms_p50: float | None = None
    ms_p90: float | None = None
    gb_per_s: float | None = None
    tflop_per_s: float | None = None
    roofline: float | None = None
    extra_mb: float | None = None
    error: float | None = None
    note: str = ""


def compare(
    problem: competitors.Problem,
    backward: bool,
    device: torch.device,
    timer: Timer,
    *,
    names: Sequence[str] | None = None,
    memory: Memory | None = None,
    ceilings: Ceilings | None = None,
) -> list[KernelRow]:
    """A row for each implementation, or of `names`. Raises EdgefelError if ours is wrong; others then are not timed."""
    names = names or competitors.names(problem)
    mode = "forward+backward" if backward else "forward"
    ready, rows = _checked(problem, backward, device, names, mode)
    for name, timing in timer(ready).items():
        work, seconds = problem.work(backward), timing.p50 * 1e-3
        rows[name] |= {
            "ms_p50": timing.p50,
            "ms_p90": timing.p90,
            "gb_per_s": work.bytes / seconds / 1e9,
            "tflop_per_s": work.flops / seconds / 1e12,
            "roofline": None if ceilings is None else ceilings.floor_ms(work) / timing.p50,
            "extra_mb": None if memory is None else memory(ready[name]) / 1e6,
        }
    what = problem.op, problem.name, problem.batch, FLOAT_TYPES[problem.dtype], mode
    return [KernelRow(*what, name, **rows[name]) for name in names]


def _checked(
    problem: competitors.Problem, backward: bool, device: torch.device, names: Sequence[str], mode: str
) -> tuple[dict[str, Run], dict[str, dict[str, Any]]]:
    """What is right and may be timed, and errors and notes of all, by name."""
    inputs = problem.inputs(device)

    def build(name: str, tensors: dict[str, Tensor]) -> Run:
        call = competitors.implementation(name, problem, tensors, backward)
        leaves = tuple(tensors[leaf] for leaf in problem.leaves)
        return competitors.run(call, leaves, tensors["grad"] if backward else None)

    expected = build("eager", {name: x.double() for name, x in inputs.items()})()
    # past a limit of recompilations torch.compile runs eagerly without a word
    torch.compiler.reset()
    ready: dict[str, Run] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            call = build(name, inputs)
            found = call()
        except Exception as error:  # whatever a competitor raises, its row says; ours must run
            if name == competitors.OURS:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            rows[name] = {"note": f"does not run: {reason}"}
            continue
        wrong = max(_relative_rms(out, truth) for out, truth in zip(found, expected, strict=True))
        del found
        rows[name] = {"error": wrong}
        if wrong <= TOLERANCE[problem.dtype]:
            ready[name] = call
        elif name == competitors.OURS:
            raise EdgefelError(
                f"{problem.op}, {problem.name}, batch {problem.batch}, {mode}: wrong by {wrong:.1e} "
                "(relative RMS); nothing was timed"
            )
        else:
            rows[name]["note"] = "wrong; not timed"
    return ready, rows


def speedups(rows: Sequence[KernelRow]) -> dict[tuple[str, str, int, str, str], float]:
    """Ours over the fastest other implementation, by (op, problem, batch, dtype, mode)."""
    times: dict[tuple[str, str, int, str, str], dict[str, float]] = {}
    for row in rows:
        if row.ms_p50 is not None:
            key = row.op, row.problem, row.batch, row.dtype, row.mode
            times.setdefault(key, {})[row.implementation] = row.ms_p50
    return {
        key: min(ms for name, ms in group.items() if name != competitors.OURS) / group[competitors.OURS]
        for key, group in times.items()
        if competitors.OURS in group and len(group) > 1
    }


def summary(rows: Sequence[KernelRow]) -> list[dict[str, Any]]:
    """For each op, type and mode: geometric mean and least of ours over the fastest other implementation."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for (op, _, _, dtype, mode), ratio in speedups(rows).items():
        groups.setdefault((op, dtype, mode), []).append(ratio)
    return [
        {
            "op": op,
            "dtype": dtype,
            "mode": mode,
            "geometric_mean": round(float(np.exp(np.mean(np.log(ratios)))), 3),
            "least": round(min(ratios), 3),
            "problems": len(ratios),
        }
        for (op, dtype, mode), ratios in groups.items()
    ]


def compile_kernels(advance: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Resources of the kernels of arbex and apvit on every target, without a GPU. advance: called with (done, all)."""
    import triton

    from edgefel.kernels.ahead_of_time.compiler import compile_all
    from edgefel.kernels.ahead_of_time.resources import TARGETS
    from edgefel.models.inference_kernels import inference_kernels
    from edgefel.models.registry import model_config

    specs = [spec for name in ("arbex", "apvit") for spec in inference_kernels(model_config(name))]
    return {
        "bench": "kernels",
        "measured": False,
        "reason": "no CUDA device: nothing was timed",
        "command": "edgefel bench kernels",
        "versions": {"edgefel": __version__, "triton": triton.__version__},
        "compiled": compile_all(specs, list(TARGETS), workers=os.cpu_count(), advance=advance),
    }


def _relative_rms(out: Tensor, expected: Tensor) -> float:
    error = (out.detach().double() - expected.detach()).square().mean().sqrt()
    # NaN must not pass a comparison
    value = float(error / expected.detach().square().mean().sqrt().clamp_min(1e-30))
    return value if value == value else float("inf")
