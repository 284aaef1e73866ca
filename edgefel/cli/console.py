"""What every command prints in the same way: tables, JSON, warnings, and progress on stderr. Imports rich lazily."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from edgefel.progress import Progress
from edgefel.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.text import Text

    from edgefel.tasks.runner import Runner

# width for files and pipes
_WIDTH = 140


def table_console() -> Console:
    """A console on stdout, as wide as the terminal or $COLUMNS, that fits tables to its width."""
    from edgefel.cli.tables import TableConsole

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return TableConsole() if known else TableConsole(width=_WIDTH)


class _Stderr:
    """Standard error that may close during a run (terminal closed, reader of a pipe gone); output is then dropped."""

    def __init__(self) -> None:
        # not looked up later: a progress bar replaces sys.stderr
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def console_on_stderr() -> Console:
    """A console whose lines are dropped once standard error is closed; the run goes on."""
    from edgefel.cli.tables import TableConsole

    return TableConsole(file=_Stderr())  # type: ignore[arg-type] # has what rich uses


def say(console: Console, *lines: str, style: str | None = None) -> None:
    """Prints lines without markup or wrapping; control characters as escapes."""
    for line in lines:
        console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    title: str = "",
    *,
    title_left: bool = False,
) -> None:
    """Prints `make_table` on stdout."""
    from edgefel.cli.tables import make_table

    table_console().print(make_table(columns, rows, title, title_left=title_left))


def print_json(document: Any) -> None:
    """One indented document on stdout."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def warn(*lines: str) -> None:
    """A line each on stderr."""
    for line in lines:
        click.echo(f"warning: {line}", err=True)


def first_names(names: Sequence[Any], most: int) -> str:
    """The first few, with commas: "a.png, b.png, ..."."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def warn_unreadable(names: Sequence[Any]) -> None:
    """Warns about the images that were skipped, if there are any."""
    if names:
        warn(f"{counted(len(names), 'unreadable image')} skipped: {first_names(names, 3)}")


def say_lost(runner: Runner) -> None:
    """Says on stderr how many tasks had to be repeated, if any had to."""
    if runner.lost:
        click.echo(f"{counted(runner.lost, 'task')} repeated, whose worker or machine was lost", err=True)


@contextmanager
def working(on: str) -> Iterator[None]:
    """A status line on stderr while the block runs, if that is a terminal; erased afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(on)):
        yield


def progress_bars(*, rate: bool = False, **options: Any) -> RichProgress:
    """Bars with counts, rate if wanted, and remaining or, at the end, elapsed time; on stderr by default."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    rates = [TextColumn("{task.fields[rate]}")] if rate else []
    options.setdefault("console", Console(stderr=True))
    return RichProgress(*columns, *rates, TimeRemainingColumn(elapsed_when_finished=True), **options)


class Bars(Progress):
    """A bar per step on stderr. Nothing is drawn before the first step: an error message then stands alone.

    rate: also show units per second. waiting: status line until the first step. options: of rich's Progress.
    """

    def __init__(self, *, rate: bool = False, waiting: str = "", **options: Any) -> None:
        self._bars = progress_bars(rate=rate, **options)
        self._waiting = waiting
        self._status = ExitStack()
        self._step: str | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        if self._waiting:
            self._status.enter_context(working(self._waiting))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._status.close()
        if kind is None:
            self._finish()
        if self._bars.live.is_started:  # stopping bars that never started prints an empty line
            self._bars.stop()

    def start(self, step: str, total: int | None = None) -> None:
        self._status.close()
        self._finish()
        if not self._bars.live.is_started:
            self._bars.start()
        self._step, self._task = step, self._bars.add_task(step, total=total, rate="")

    def advance(self, units: int = 1) -> None:
        if self._task is not None:
            self._bars.advance(self._task, units)
            speed = self._bars.tasks[self._task].speed
            self._bars.update(self._task, rate=f"{speed:.3g}/s" if speed else "")

    def update(self, done: float, total: float) -> None:
        """`done` of `total` units of the step are done."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def share(self, step: str, share: float) -> None:
        """`share` of the step, 0 to 1, is done; a step begins when its name first comes."""
        self.follower(step)(round(100 * share), 100)

    def counter(self, step: str, total: int | None = None) -> Callable[[int], None]:
        """A callback that adds units to the step; the step begins with its first call."""

        def advance(units: int = 1) -> None:
            if step != self._step:
                self.start(step, total)
            self.advance(units)

        return advance

    def follower(self, step: str) -> Callable[[int, int], None]:
        """A callback that takes how many units of the step are done, and of how many; it begins with the first call."""

        def update(done: int, total: int) -> None:
            if step != self._step:
                self.start(step)
            self.update(done, total)

        return update

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._bars.tasks[self._task]
        total = task.total or max(task.completed, 1)
        self._bars.update(self._task, total=total, completed=total)
        self._task = self._step = None
