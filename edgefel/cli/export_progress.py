"""Draws the progress of an export on stderr."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from edgefel.progress import Progress


class RichProgress(Progress):
    """A line per step, with a bar where the length is known."""

    def __init__(self) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> RichProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        if self._bars.live.is_started:
            self._bars.stop()

    def start(self, step: str, total: int | None = None) -> None:
        self._finish()
        if not self._bars.live.is_started:  # not before: an error without a step needs no empty line above it
            self._bars.start()
        self._task = self._bars.add_task(step, total=total)

    def advance(self, units: int = 1) -> None:
        if self._task is not None:
            self._bars.advance(self._task, units)

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._bars.tasks[self._task]
        total = task.total or max(task.completed, 1)
        self._bars.update(self._task, total=total, completed=total)
        self._task = None
