"""Time and memory of opening a set of millions of images and of drawing balanced epochs from it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.results import Row
from edgefel.bench.timer import FULL, Advance, TimingPlan, measure
from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.loading.sampling import BalancedEpoch
from edgefel.errors import EdgefelError
from edgefel.text import counted

# Eight classes as unequal as those of expressions in the wild, 30 to 1; the last is "other".
SHARES = (0.30, 0.16, 0.09, 0.05, 0.012, 0.018, 0.02, 0.35)
LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "other")
_RUN = 50  # frames for which an expression lasts
TABLE, SAMPLER, EPOCH = "open the table", "make the sampler", "draw an epoch"


@dataclass(frozen=True)
class EpochOptions:
    """rows: images of the set; videos: its groups. per_class, per_group: see `BalancedEpoch`.

    Raises EdgefelError for no video, or too few rows for the videos.
    """

    rows: int = 2_600_000
    videos: int = 550
    per_class: int = 500
    per_group: int = 512
    plan: TimingPlan = FULL

    def __post_init__(self) -> None:
        if self.videos < 1 or self.rows < self.videos * _RUN:
            raise EdgefelError(
                f"{counted(self.rows, 'image')} in {counted(self.videos, 'video')}: give at least one video "
                f"and {_RUN} images for each"
            )


class EpochColumns(NamedTuple):
    """What a reader returns: the label, int16, and the video, int32, of every frame [N]."""

    label: NDArray[np.int16]
    group: NDArray[np.int32]


@dataclass(frozen=True)
class Frames:
    """Paths of synthetic frames, as in Aff-Wild2. No file exists: reading one raises FileNotFoundError."""

    group: NDArray[np.int32]

    def path(self, index: int) -> Path:
        return Path("cropped_aligned", f"video{self.group[index]}", f"{index:07d}.jpg")

    def read(self, index: int) -> bytes:
        raise FileNotFoundError(f"{self.path(index)}: a synthetic frame; no file exists")


def draw_columns(rows: int, videos: int) -> EpochColumns:
    """Videos of very different lengths with expressions that last a while; always the same ones."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.choice(np.arange(1, rows), videos - 1, replace=False))
    lengths = np.diff(ends, prepend=0, append=rows)
    shares = np.array(SHARES) / sum(SHARES)
    label = np.repeat(rng.choice(len(SHARES), rows // _RUN + 1, p=shares), _RUN)[:rows]
    return EpochColumns(label.astype(np.int16), np.repeat(np.arange(videos, dtype=np.int32), lengths))


def open_table(columns: EpochColumns) -> ImageDataset:
    """The train split, here the whole set, as a reader and the set-up of training make it."""
    names = tuple(f"video{number}" for number in range(int(columns.group[-1]) + 1))
    table = SampleTable(Frames(columns.group), columns.label, columns.group, names, "train")
    dataset = ImageDataset(Path("cropped_aligned"), LABELS, table)
    return dataset.subset(dataset.in_split("train"))


def bench_epochs(options: EpochOptions, advance: Advance = lambda step, share: None) -> tuple[Row, ...]:
    """Rows for opening the train split, making the sampler and drawing an epoch, timed in turn.

    Raises EdgefelError, before timing, for an epoch that is not balanced.
    """
    return measured_rows("data-path", _timed_stages(options, advance))


def _timed_stages(options: EpochOptions, advance: Advance) -> Iterator[Found]:
    columns = draw_columns(options.rows, options.videos)
    dataset = open_table(columns)
    sampler = make_sampler(dataset, options)
    check(dataset, sampler)
    epochs = count(1)
    calls: dict[str, Callable[[], Any]] = {
        TABLE: lambda: open_table(columns),
        SAMPLER: lambda: make_sampler(dataset, options),
        EPOCH: lambda: sampler.indices(next(epochs)),
    }
    step = f"{counted(options.rows, 'image')} in {counted(options.videos, 'video')}"
    for stage, timing in measure(calls, options.plan, advance=partial(advance, step)).items():
        subject = {"stage": stage, "rows": options.rows, "groups": options.videos, "classes": len(LABELS)}
        speed = timing.speed(len(sampler) if stage == EPOCH else options.rows)
        metrics = {**speed, "additional_memory_mb": additional_memory_mb(calls[stage])}
        yield subject, metrics, timing.verdict.notes


def make_sampler(dataset: ImageDataset, options: EpochOptions) -> BalancedEpoch:
    """As training makes it."""
    return BalancedEpoch(dataset.targets(), dataset.groups(), options.per_class, options.per_group)


def check(dataset: ImageDataset, sampler: BalancedEpoch) -> None:
    """Raises EdgefelError unless an epoch has `per_class` of each class and no group gives more than `per_group`."""
    drawn = sampler.indices(0)
    classes = np.bincount(dataset.targets()[drawn])
    _, taken = np.unique(dataset.groups()[np.unique(drawn)], return_counts=True)
    if set(classes[classes > 0].tolist()) != {sampler.per_class} or taken.max() > sampler.per_group:
        raise EdgefelError("an epoch is not balanced; nothing was timed")


def additional_memory_mb(call: Callable[[], Any]) -> float:
    """Peak memory allocated by a call, its result included, in 10^6 bytes."""
    tracemalloc.start()
    try:
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return round(peak / 1e6, 1)
