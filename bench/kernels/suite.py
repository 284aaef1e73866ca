"""Runs the comparison: every output is checked against float64 before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edgefel.bench.kernels import competitors
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.kernels.problems import AttentionProblem, HeadProblem, PoolingProblem, Work
from edgefel.bench.timer import Timing
from edgefel.errors import EdgefelError
from edgefel.kernels.backend import type_name

# largest relative root-mean-square error of a result, by the type it was computed in
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}

Timer = Callable[[Mapping[str, Callable[[], Any]]], dict[str, Timing]]
Memory = Callable[[Callable[[], Any]], int]


@dataclass(frozen=True)
class KernelRow:
    """One implementation of one problem. `note` says why there are no numbers, where there are none.

    ms_p50, ms_p90; gb_per_s, tflop_per_s: of the unavoidable work; roofline: share of the floor, 0..1, None
    without ceilings; extra_mb: peak memory beyond the inputs, 10^6 bytes; error: largest relative RMS.
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


def compare_attention(
    problem: AttentionProblem,
    backward: bool,
    device: torch.device,
    timer: Timer,
    *,
    names: Sequence[str] = competitors.ATTENTION_NAMES,
    memory: Memory | None = None,
    ceilings: Ceilings | None = None,
) -> list[KernelRow]:
    """A row for each implementation. Raises EdgefelError if ours is wrong; a wrong competitor is not timed."""
    inputs = problem.inputs(device)
    wide = {name: x.double() for name, x in inputs.items()}
    expected = competitors.run(competitors.attention("eager", problem, wide, backward), wide, backward)()

    def build(name: str) -> Callable[[], tuple[Tensor, ...]]:
        return competitors.run(competitors.attention(name, problem, inputs, backward), inputs, backward)

    return _compare(
        "window_cross_attention",
        problem,
        "forward+backward" if backward else "forward",
        problem.dtype,
        {name: lambda name=name: build(name) for name in names},  # type: ignore[misc]
        expected,
        timer,
        memory,
        ceilings,
        problem.work(backward),
    )


def compare_head(
    problem: HeadProblem,
    device: torch.device,
    timer: Timer,
    *,
    names: Sequence[str] = competitors.HEAD_NAMES,
    memory: Memory | None = None,
    ceilings: Ceilings | None = None,
) -> list[KernelRow]:
    """As `compare_attention`, for the head's arithmetic."""
    inputs = problem.inputs(device)
    expected = competitors.head("eager", problem, {name: x.double() for name, x in inputs.items()})()
    return _compare(
        "reliability_balance",
        problem,
        "forward",
        torch.float32,
        {name: lambda name=name: competitors.head(name, problem, inputs) for name in names},  # type: ignore[misc]
        expected,
        timer,
        memory,
        ceilings,
        problem.work(False),
    )


def compare_pooling(
    problem: PoolingProblem,
    backward: bool,
    device: torch.device,
    timer: Timer,
    *,
    names: Sequence[str] = competitors.POOLING_NAMES,
    memory: Memory | None = None,
    ceilings: Ceilings | None = None,
) -> list[KernelRow]:
    """As `compare_attention`, for token pooling."""
    inputs = problem.inputs(device)
    wide = {name: x.double() for name, x in inputs.items()}
    return _compare(
        problem.op,
        problem,
        "forward+backward" if backward else "forward",
        problem.dtype,
        {
            name: lambda name=name: competitors.pooling(name, problem, inputs, backward)  # type: ignore[misc]
            for name in names
        },
        competitors.pooling("eager", problem, wide, backward)(),
        timer,
        memory,
        ceilings,
        problem.work(backward),
    )


def _compare(
    op: str,
    problem: AttentionProblem | HeadProblem | PoolingProblem,
    mode: str,
    dtype: torch.dtype,
    builders: Mapping[str, Callable[[], Callable[[], tuple[Tensor, ...]]]],
    expected: tuple[Tensor, ...],
    timer: Timer,
    memory: Memory | None,
    ceilings: Ceilings | None,
    work: Work,
) -> list[KernelRow]:
    # past a limit of recompilations torch.compile runs eagerly without a word
    torch.compiler.reset()
    base: dict[str, Any] = {
        "op": op,
        "problem": problem.name,
        "batch": problem.batch,
        "dtype": type_name(dtype),
        "mode": mode,
    }
    ready: dict[str, Callable[[], tuple[Tensor, ...]]] = {}
    errors: dict[str, float] = {}
    rows: dict[str, KernelRow] = {}
    for name, build in builders.items():
        try:
            call = build()
            found = call()
        except Exception as error:  # whatever a competitor raises, its row says; ours must run
            if name == competitors.OURS:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            rows[name] = KernelRow(**base, implementation=name, note=f"does not run: {reason}")
            continue
        errors[name] = max(_relative_rms(out, truth) for out, truth in zip(found, expected, strict=True))
        del found
        if errors[name] <= TOLERANCE[dtype]:
            ready[name] = call
        elif name == competitors.OURS:
            raise EdgefelError(
                f"{op}, {problem.name}, batch {problem.batch}, {mode}: wrong by {errors[name]:.1e} (relative RMS); "
                "nothing was timed"
            )
        else:
            rows[name] = KernelRow(**base, implementation=name, error=errors[name], note="wrong; not timed")
    for name, timing in timer(ready).items():
        seconds = timing.p50 * 1e-3
        rows[name] = KernelRow(
            **base,
            implementation=name,
            ms_p50=timing.p50,
            ms_p90=timing.p90,
            gb_per_s=work.bytes / seconds / 1e9,
            tflop_per_s=work.flops / seconds / 1e12,
            roofline=None if ceilings is None else ceilings.floor_ms(work) / timing.p50,
            extra_mb=None if memory is None else memory(ready[name]) / 1e6,
            error=errors[name],
        )
    return [rows[name] for name in builders]


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
