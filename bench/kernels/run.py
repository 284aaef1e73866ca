"""A run of the kernel bench on a GPU: what is compared, and rows that are written as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from edgefel.bench.environment import describe
from edgefel.bench.kernels import competitors, gpu
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.kernels.problems import DTYPES, HeadProblem, poolings, pyramid_levels
from edgefel.bench.kernels.suite import KernelRow, Memory, Timer, compare
from edgefel.bench.results import Row, append_results, check_names, make_row, read_results
from edgefel.bench.timer import TimingPlan, cuda_stopwatch, measure
from edgefel.errors import EdgefelError
from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.progress import SILENT, Progress

KIND = "kernels"
MODES = ("forward", "forward+backward")
_SUBJECT = ("op", "problem", "batch", "dtype", "mode", "implementation")


@dataclass(frozen=True)
class Selection:
    """What is compared. levels: of the pyramid, without the other ops; None for every op. names: implementations, of
    `competitors.ALL`; None for all. dtypes: names of DTYPES. Raises EdgefelError for an unknown one."""

    batches: tuple[int, ...] = (64, 1)
    dtypes: tuple[str, ...] = ("fp16",)
    levels: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    modes: tuple[str, ...] = MODES

    def __post_init__(self) -> None:
        check_names("type", self.dtypes, tuple(DTYPES))
        check_names("implementation", self.names, competitors.ALL)
        check_names("mode", self.modes, MODES)
        for level in self.levels or ():
            if level not in (1, 2, 3):
                raise EdgefelError(f"level {level}: the pyramid has the levels 1, 2 and 3")

    def steps(self) -> list[Step]:
        """The comparisons in order: forward first, then by type and batch."""
        found: list[Step] = []
        for mode, dtype, batch in product(self.modes, self.dtypes, self.batches):
            problems: list[Any] = [
                one
                for one in pyramid_levels(batch, DTYPES[dtype])
                if self.levels is None or one.level in self.levels
            ]
            if self.levels is None:
                problems += poolings(batch, DTYPES[dtype])
                # its arithmetic is FP32 whatever the type, and has no gradient
                problems += [HeadProblem(batch=batch)] if (mode, dtype) == (MODES[0], self.dtypes[0]) else []
            found += [Step(problem, mode, self._names(problem)) for problem in problems]
        return [step for step in found if step.names]

    def _names(self, problem: competitors.Problem) -> tuple[str, ...]:
        known = competitors.names(problem)
        return known if self.names is None else tuple(name for name in known if name in self.names)


@dataclass(frozen=True)
class Step:
    """One problem, whose implementations take turns."""

    problem: competitors.Problem
    mode: str
    names: tuple[str, ...]

    def subjects(self) -> list[dict[str, Any]]:
        """Of its rows."""
        problem = self.problem
        what = (problem.op, problem.name, problem.batch, FLOAT_TYPES[problem.dtype], self.mode)
        return [dict(zip(_SUBJECT, (*what, name), strict=True)) for name in self.names]


@dataclass(frozen=True)
class Rig:
    """What measures: a device, a timer, memory and ceilings by type."""

    device: torch.device
    timer: Timer
    memory: Memory | None
    ceilings: Callable[[torch.dtype], Ceilings | None]
    environment: dict[str, Any]


def cuda_rig(runs: int) -> Rig:
    """The current GPU; `runs` of each implementation."""
    timer = partial(measure, plan=TimingPlan.exactly(runs), stopwatch=cuda_stopwatch())
    found = gpu.describe_device()
    environment = {**describe(), "device": found["device"], "cuda": found}
    return Rig(torch.device("cuda"), timer, gpu.extra_memory, gpu.measure_ceilings, environment)


def measure_kernels(
    selection: Selection, rig: Rig, output: Path | None = None, progress: Progress = SILENT
) -> list[Row]:
    """Rows of every comparison. With `output`, each comparison's rows are added to that file as soon as they are there,
    and comparisons whose rows of this device and commit it holds already are not made again.

    Raises EdgefelError if ours is wrong, after the rows before.
    """
    before = _known(output, rig.environment) if output is not None else {}
    rows: list[Row] = []
    ceilings: dict[torch.dtype, Ceilings | None] = {}
    steps = selection.steps()
    progress.start("comparing", len(steps))
    for step in steps:
        known = [before.get(_key(subject)) for subject in step.subjects()]
        if all(known):
            rows += [row for row in known if row is not None]
        else:
            rows += (made := _measure(step, rig, ceilings))
            if output is not None:
                append_results(output, made)
            if rig.device.type == "cuda":
                torch.cuda.empty_cache()
        progress.advance()
    return rows


def _measure(step: Step, rig: Rig, ceilings: dict[torch.dtype, Ceilings | None]) -> list[Row]:
    dtype = step.problem.dtype
    if dtype not in ceilings:
        ceilings[dtype] = rig.ceilings(dtype)
    # the head's floor is a launch
    limits = None if isinstance(step.problem, HeadProblem) else ceilings[dtype]
    backward = step.mode != MODES[0]
    found = compare(
        step.problem, backward, rig.device, rig.timer, names=step.names, memory=rig.memory, ceilings=limits
    )
    return [to_row(one, limits, rig.environment) for one in found]


def to_row(found: KernelRow, ceilings: Ceilings | None, environment: dict[str, Any]) -> Row:
    """A result row; numbers that are missing are left out."""
    values = asdict(found)
    subject = {name: values.pop(name) for name in _SUBJECT}
    note = values.pop("note")
    metrics = {name: value for name, value in values.items() if value is not None}
    if metrics.get("error") == float("inf"):
        del metrics["error"]  # JSON has no infinity; the note says it
    if ceilings is not None:
        metrics["ceilings"] = asdict(ceilings)
    return make_row(KIND, subject, metrics, environment, [note] if note else [])


def from_row(row: Row) -> KernelRow:
    """What `to_row` was given."""
    names = {field.name for field in fields(KernelRow)}
    metrics = {name: value for name, value in row.metrics.items() if name in names}
    return KernelRow(**row.subject, **metrics, note="; ".join(row.notes))


def kernel_rows(rows: Iterable[Row]) -> list[KernelRow]:
    """Of rows of this kind."""
    return [from_row(row) for row in rows if row.kind == KIND]


def _known(path: Path, environment: dict[str, Any]) -> dict[str, Row]:
    """The newest rows of this device and commit in the file, by subject."""
    if not path.exists():
        return {}
    same = [row for row in read_results(path).rows if row.kind == KIND and _alike(row, environment)]
    return {_key(row.subject): row for row in same}


def _alike(row: Row, environment: dict[str, Any]) -> bool:
    names = ("device", "commit", "versions")
    return all(row.environment.get(name) == environment.get(name) for name in names)


def _key(subject: Any) -> str:
    return repr(sorted(subject.items()))
