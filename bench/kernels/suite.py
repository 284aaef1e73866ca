"""Runs the comparison: every output is checked against float64 before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edgefel.bench.kernels import competitors
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.kernels.problems import Work
from edgefel.bench.timer import Timing
from edgefel.errors import EdgefelError
from edgefel.kernels.backend import FLOAT_TYPES

# largest relative root-mean-square error of a result, by the type it was computed in
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}

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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


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
    """A row for each implementation, all of them if `names` is None.

    Raises EdgefelError if ours is wrong; a wrong competitor is not timed.
    """
    inputs = problem.inputs(device)

    def build(name: str, tensors: dict[str, Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        call = competitors.implementation(name, problem, tensors, backward)
        leaves = tuple(tensors[leaf] for leaf in problem.leaves)
        return competitors.run(call, leaves, tensors["grad"] if backward else None)

    expected = build("eager", {name: x.double() for name, x in inputs.items()})()
    # past a limit of recompilations torch.compile runs eagerly without a word
    torch.compiler.reset()
    mode = "forward+backward" if backward else "forward"
    base: dict[str, Any] = {
        "op": problem.op,
        "problem": problem.name,
        "batch": problem.batch,
        "dtype": FLOAT_TYPES[problem.dtype],
        "mode": mode,
    }
    ready: dict[str, Callable[[], tuple[Tensor, ...]]] = {}
    errors: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    names = names or competitors.names(problem)
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
        errors[name] = max(_relative_rms(out, truth) for out, truth in zip(found, expected, strict=True))
        del found
        if errors[name] <= TOLERANCE[problem.dtype]:
            ready[name] = call
        elif name == competitors.OURS:
            raise EdgefelError(
                f"{problem.op}, {problem.name}, batch {problem.batch}, {mode}: wrong by {errors[name]:.1e} "
                "(relative RMS); nothing was timed"
            )
        else:
            rows[name] = {"error": errors[name], "note": "wrong; not timed"}
    for name, timing in timer(ready).items():
        extra = None if memory is None else memory(ready[name]) / 1e6
        speed = _speed(timing, problem.work(backward), ceilings)
        rows[name] = {**speed, "extra_mb": extra, "error": errors[name]}
    return [KernelRow(**base, implementation=name, **rows[name]) for name in names]


def _speed(timing: Timing, work: Work, ceilings: Ceilings | None) -> dict[str, Any]:
    seconds = timing.p50 * 1e-3
    return {
        "ms_p50": timing.p50,
        "ms_p90": timing.p90,
        "gb_per_s": work.bytes / seconds / 1e9,
        "tflop_per_s": work.flops / seconds / 1e12,
        "roofline": None if ceilings is None else ceilings.floor_ms(work) / timing.p50,
    }


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


def _relative_rms(out: Tensor, expected: Tensor) -> float:
    error = (out.detach().double() - expected.detach()).square().mean().sqrt()
    # NaN must not pass a comparison
    value = float(error / expected.detach().square().mean().sqrt().clamp_min(1e-30))
    return value if value == value else float("inf")
