"""The progress bar of a training run, on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class TrainingProgress:
    """Epoch, step, loss, accuracy, images/s and time left. Silent where `enabled` is off."""

    def __init__(
        self, *, enabled: bool, epochs: int, steps: int, start: int, max_seconds: float | None
    ) -> None:
        self.enabled = enabled
        self.console = Console(stderr=True)
        self.epochs, self.steps, self.start, self.max_seconds = epochs, steps, start, max_seconds
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not enabled,
        )
        self._task = self._bar.add_task(
            "train", total=steps, completed=start, epoch=f"1/{epochs}", numbers=""
        )
        self._began = time.perf_counter()
        self._outside = 0.0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """A line that must be seen, whether or not there is a bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def loading(self, total: int) -> LoadingBar:
        """A bar for reading images into memory; use it as a context manager."""
        return LoadingBar(self.console, total, self.enabled)

    def update(
        self, *, epoch: int, step: int, loss: float, accuracy: float, rate: float, spent: float
    ) -> None:
        """After a step: numbers of the log interval, `rate` in images/s, `spent` seconds so far."""
        elapsed = time.perf_counter() - self._began
        done = max(step - self.start, 1)
        left = (self.steps - step) * elapsed / done
        if self.max_seconds is not None:
            left = max(0.0, min(left, self.max_seconds - spent))
        numbers = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:.0f} images/s  {_clock(left)} left"
        self._bar.update(self._task, completed=step, epoch=f"{epoch + 1}/{self.epochs}", numbers=numbers)


class LoadingBar:
    """Images read so far."""

    def __init__(self, console: Console, total: int, enabled: bool, text: str = "reading images") -> None:
        self._bar = Progress(
            TextColumn(text),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            console=console,
            disable=not enabled,
            transient=True,
        )
        self._task = self._bar.add_task("read", total=total)

    def advance(self, count: int) -> None:
        """`count` more images are done."""
        self._bar.advance(self._task, count)

    def __enter__(self) -> LoadingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
