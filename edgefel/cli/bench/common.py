"""What the benches' commands share: lists with commas, how long to time, progress."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli.console import working

if TYPE_CHECKING:
    from rich.progress import TaskID

    from edgefel.bench.timer import Plan

    _ParamType = click.ParamType[Any]
else:  # it takes a type since click 8.4
    _ParamType = click.ParamType


class NameList(_ParamType):
    """Names with commas between them, each once: "fp32,int8" -> ("fp32", "int8")."""

    name = "names"

    def __init__(self, known: Sequence[str] | None = None) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names) or len(set(names)) != len(names):
            self.fail(f"{value!r}: give names with commas between them, each once", param, ctx)
        unknown = [name for name in names if self._known is not None and name not in self._known]
        if unknown:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(self._known or ())}", param, ctx)
        return names


class IntegerList(_ParamType):
    """Numbers of at least 1 with commas between them, each once: "1,8" -> (1, 8)."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        numbers = tuple(int(part) for part in parts if part.isdecimal())
        if len(numbers) != len(parts) or 0 in numbers or len(set(numbers)) != len(numbers):
            self.fail(
                f"{value!r}: give numbers of at least 1 with commas between them, each once", param, ctx
            )
        return numbers


def timing_plan(quick: bool, runs: int | None) -> Plan:
    """The full plan or the quick one, with another number of runs if one is given.

    Raises EdgefelError for none.
    """
    from dataclasses import replace

    from edgefel.bench.timer import FULL, QUICK

    plan = QUICK if quick else FULL
    return plan if runs is None else replace(plan, min_runs=runs, max_runs=max(runs, plan.max_runs))


class BenchProgress:
    """A line with a bar on stderr for each step."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True))
        self._waiting = ExitStack()
        self._step: str | None = None
        self._task: TaskID | None = None

    def show(self, step: str, share: float) -> None:
        """`share` of the step, 0 to 1, is done; another step than before begins a line."""
        if step != self._step or self._task is None:
            self._waiting.close()
            if (
                not self._bars.live.is_started
            ):  # not before: an error without a step needs no empty line above it
                self._bars.start()
            self._step, self._task = step, self._bars.add_task(step, total=1.0)
        self._bars.update(self._task, completed=share)

    def __enter__(self) -> BenchProgress:
        self._waiting.enter_context(working("preparing"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close()
        if self._bars.live.is_started:
            self._bars.stop()
