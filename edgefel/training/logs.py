"""What a run writes down while it goes: metrics.csv and TensorBoard events."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefel.files.read import read_text
from edgefel.files.write import DISK_FULL, write_text

COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "images_per_second",
    "lr",
    "trust",
    "loss",
    "loss_classification",
    "loss_anchor",
    "loss_center",
    "loss_auxiliary",
    "anchor_spread",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_macro_f1",
    "val_ece",
    "val_primary_accuracy",
    "val_primary_macro_f1",
    "skipped_images",
)


class MetricsLog:
    """One line per log interval, in metrics.csv and as TensorBoard scalars.

    `resumed_step` cuts both back to that step: what a killed run wrote after its last checkpoint will be
    written again.
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
        """Appends a row; columns that it lacks stay empty. Numbers keep their full precision."""
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise ValueError(f"unknown columns {sorted(unknown)}")
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row.get(name, "") for name in COLUMNS])
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line.getvalue())
        for name, value in row.items():
            if name not in ("step", "epoch"):
                group = "val" if name.startswith("val_") else "train"
                tag = f"{group}/{name.removeprefix('val_')}"
                self.writer.add_scalar(tag, value, row["step"])

    def close(self) -> None:
        """Flushes the events. Raises OSError if they could not be written."""
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._hook

    def _without_full_disks(self, arguments: threading.ExceptHookArgs) -> None:
        # events are written by a thread; what it could not write, `write` or `close` raises, and says it once
        if getattr(arguments.exc_value, "errno", None) not in DISK_FULL:
            self._hook(arguments)

    def _truncate(self, step: int) -> None:
        lines = read_text(self.path).splitlines()
        kept = [line for line in lines[1:] if line.count(",") == len(COLUMNS) - 1]
        # what has no step is none of ours, or was cut off
        kept = [line for line in kept if (at := line.split(",", 1)[0]).isdecimal() and int(at[:20]) <= step]
        write_text(self.path, "\n".join([",".join(COLUMNS), *kept]) + "\n")
