"""What a run reports: means of each log interval in metrics.csv and TensorBoard, and progress bars on stderr."""

from __future__ import annotations

import csv
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from edgefel.errors import EdgefelError
from edgefel.files.read import read_text
from edgefel.files.write import DISK_FULL, write_text
from edgefel.training.distributed import gather_sum
from edgefel.training.losses import DistillationTerms, LossTerms, ReliabilityLoss

_CORRECT, _IMAGES, _STEPS = -3, -2, -1  # behind the terms

COLUMNS = (
    *("step", "epoch", "seconds", "images_per_second", "lr", "correction_ramp"),
    *("loss", "loss_classification", "loss_anchor", "loss_center", "loss_auxiliary", "anchor_spread"),
    *("loss_logits", "loss_embedding"),
    *("accuracy", "val_loss", "val_accuracy", "val_macro_f1", "val_ece"),
    *("val_primary_accuracy", "val_primary_macro_f1", "skipped_images"),
)


class Window:
    """Loss terms and accuracy summed over the steps of a log interval, on the device: no step waits for it.

    Every rank sums its own part; the parts are added when they are read. names: of the terms, in their order.
    """

    def __init__(
        self,
        device: torch.device,
        world: int,
        saved: list[float],
        names: Sequence[str] = ReliabilityLoss.names,
    ) -> None:
        self.world, self.names = world, names
        self.steps = 0.0  # of the last `take`
        self.sums = torch.tensor(saved or [0.0] * (len(names) + 3), device=device)

    def add(self, terms: LossTerms | DistillationTerms, correct: Tensor, images: int) -> None:
        """One step. The terms are means over equal shards, so a rank's share of each is 1/world."""
        values = [term.detach() / self.world for term in terms]
        values += [correct, correct.new_tensor(images), terms.total.new_tensor(1.0 / self.world)]
        self.sums += torch.stack([value.to(self.sums) for value in values])

    def state(self) -> list[float]:
        """The sums over all ranks. Raises EdgefelError if the loss is no longer finite."""
        sums = [float(value) for value in gather_sum(self.sums).tolist()]
        if not all(math.isfinite(value) for value in sums):
            hinge = ", or with --anchor-loss hinge" if "loss_anchor" in self.names else ""
            raise EdgefelError(
                f"the loss is no longer finite (its terms: {dict(zip(self.names, sums, strict=False))}); "
                f"start again with a lower --lr{hinge}"
            )
        return sums

    def take(self) -> dict[str, float]:
        """Returns the means over all ranks since the last call, and resets the sums."""
        sums = self.state()
        self.steps = sums[_STEPS]
        self.sums.zero_()
        return self._means(sums)

    def own(self) -> dict[str, float]:
        """This rank's means so far."""
        return self._means([float(value) for value in self.sums.tolist()])

    def _means(self, sums: list[float]) -> dict[str, float]:
        steps = max(sums[_STEPS], 1e-9)
        means = {name: value / steps for name, value in zip(self.names, sums, strict=False)}
        return means | {"accuracy": sums[_CORRECT] / max(sums[_IMAGES], 1.0)}


class Clock:
    """Seconds of training over all sessions of a run (`before`: earlier ones), and images/s since the last lap."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = self._mark = time.perf_counter()
        self._images = 0

    def count(self, images: int) -> None:
        """Adds `images` to the current lap."""
        self._images += images

    def seconds(self) -> float:
        """Training time so far, including earlier sessions."""
        return self._before + time.perf_counter() - self._start

    def rate(self) -> float:
        """Images per second since the last lap."""
        return self._images / max(time.perf_counter() - self._mark, 1e-9)

    def lap(self) -> None:
        """Starts a new lap."""
        self._mark, self._images = time.perf_counter(), 0


class MetricsLog:
    """One line per log interval, in metrics.csv and as TensorBoard scalars.

    `resumed_step` truncates both to that step: what a killed run wrote after its last checkpoint is written again.
    """

    def __init__(self, run: Path, resumed_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "metrics.csv"
        if resumed_step is None or not self.path.is_file():
            write_text(self.path, ",".join(COLUMNS) + "\n")
        else:
            self._truncate(resumed_step)
        purge = None if resumed_step is None else resumed_step + 1
        self._hook = threading.excepthook
        threading.excepthook = self._without_full_disks
        self.writer = SummaryWriter(str(run / "tb"), purge_step=purge)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row; columns that it lacks stay empty. Numbers keep their full precision.

        Raises ValueError for an unknown column.
        """
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(row)
        for name, value in row.items():
            if name not in ("step", "epoch"):
                tag = name.replace("val_", "val/", 1) if name.startswith("val_") else f"train/{name}"
                self.writer.add_scalar(tag, value, row["step"])

    def close(self) -> None:
        """Flushes the events. Raises OSError if they could not be written."""
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._hook

    def _without_full_disks(self, arguments: threading.ExceptHookArgs) -> None:
        # TensorBoard writes in a thread; a full disk there is reported once, by `write` or `close`
        if getattr(arguments.exc_value, "errno", None) not in DISK_FULL:
            self._hook(arguments)

    def _truncate(self, step: int) -> None:
        header, *lines = read_text(self.path).splitlines() or [""]
        names = header.split(",")  # of an earlier version, there may be fewer
        found = [
            dict(zip(names, line.split(","), strict=True))
            for line in lines
            if line.count(",") == len(names) - 1
        ]
        # lines without a step are not ours, or were cut off
        kept = [row for row in found if (at := row.get("step", "")).isdecimal() and int(at[:20]) <= step]
        rows = [",".join(row.get(name, "") for name in COLUMNS) for row in kept]
        write_text(self.path, "\n".join([",".join(COLUMNS), *rows]) + "\n")


class TrainingProgress:
    """Messages, and a bar with epoch, step, loss, accuracy, images/s and time left; silent unless `enabled`.

    start, spent: step and seconds at which this session begins.
    """

    def __init__(
        self, epochs: int, steps: int, max_seconds: float, *, start: int, spent: float, enabled: bool
    ) -> None:
        self.epochs, self.steps, self.max_seconds = epochs, steps, max_seconds
        self.start, self.spent, self.enabled = start, spent, enabled
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._task = self.bar.add_task("train", total=steps, completed=start, epoch=f"1/{epochs}", numbers="")

    def say(self, text: str, *, always: bool = False) -> None:
        """Prints a line above the bar; only where there is a bar unless `always`."""
        if self.enabled or always:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, epoch: int, step: int, means: Mapping[str, float], clock: Clock) -> None:
        """After a step, with the means of the log interval."""
        spent = clock.seconds()
        left = (self.steps - step) * (spent - self.spent) / max(step - self.start, 1)
        left = max(0.0, min(left, self.max_seconds - spent))
        numbers = f"loss {means['loss']:.3f}  accuracy {means['accuracy']:.1%}  {clock.rate():.0f} images/s"
        self.bar.update(
            self._task,
            completed=step,
            epoch=f"{epoch + 1}/{self.epochs}",
            numbers=f"{numbers}  {_duration(left)} left",
        )


@contextmanager
def loading_bar(total: int, *, shown: bool, text: str = "reading images") -> Iterator[Callable[[int], None]]:
    """A progress bar while images are read; yields the function that advances it."""
    columns = (TextColumn(text), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task("read", total=total)
        yield lambda count: bar.advance(task, count)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
