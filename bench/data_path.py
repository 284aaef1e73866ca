"""The data path without the training: images per second stage by stage, and the cost of epochs of millions."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.results import Row, check_counts, check_names, read_results
from edgefel.bench.timer import FULL, Advance, TimingPlan, measure, opencv_threads
from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.images import UnreadableImageError, decode_rgb
from edgefel.data.loading.batches import Batch, ImageSource
from edgefel.data.loading.sampling import BalancedEpoch
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Image, Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.gate import torch_threads
from edgefel.models.registry import model_config
from edgefel.text import counted
from edgefel.training.augmentation import Augmentation
from edgefel.training.config import AugmentConfig

READ, DECODE, RESIZE, AUGMENT = "read", "decode", "resize", "augment"
READING, CACHED = "read to batch", "cached to batch"
WHOLE, WHOLE_CACHED = "whole", "whole cached"
# those of one thread, then those of as many as there are workers
STAGES = (READ, DECODE, RESIZE, READING, CACHED, AUGMENT, WHOLE, WHOLE_CACHED)
BY_WORKERS = (READING, WHOLE)
AUGMENTING = (AUGMENT, WHOLE, WHOLE_CACHED)
# Eight classes as unequal as those of expressions in the wild, 30 to 1; the last is "other".
SHARES = (0.30, 0.16, 0.09, 0.05, 0.012, 0.018, 0.02, 0.35)
LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "other")
_RUN = 50  # frames for which an expression lasts
TABLE, SAMPLER, EPOCH = "open the table", "make the sampler", "draw an epoch"


@dataclass(frozen=True)
class TrainingRate:
    """Images per second of training, and where the number comes from."""

    images_per_s: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.images_per_s < float("inf"):  # NaN too
            raise EdgefelError(f"training at {self.images_per_s} images/s: give a number above 0")


@dataclass(frozen=True)
class DataPathOptions:
    """What is read, and how.

    data: a data set. model: gives the size of the images. workers: numbers of reading threads for the stages
    of BY_WORKERS. batch: images of a batch. images: images of one timed pass at most, drawn as training
    draws them. stages: names of STAGES. threads: of PyTorch, for augmentation on the CPU; None leaves them as
    they are. training: the rate to reach. Raises EdgefelError for unknown names and too small numbers.
    """

    data: str | os.PathLike[str]
    model: str = "arbex"
    workers: tuple[int, ...] = (1, 2)
    batch: int = 32
    images: int = 256
    stages: tuple[str, ...] = STAGES
    threads: int | None = None
    plan: TimingPlan = FULL
    training: TrainingRate | None = None

    def __post_init__(self) -> None:
        model_config(self.model)
        check_names("stage", self.stages, STAGES)
        check_counts(workers=self.workers, batch=self.batch, threads=self.threads)
        if self.images < self.batch:
            images = counted(self.images, "image")
            raise EdgefelError(f"batch {self.batch}, {images}: give at least one batch of images")


class DataPathCase(NamedTuple):
    """One thing that is timed; workers: None for a stage of one thread."""

    stage: str
    workers: int | None = None


def bench_data_path(options: DataPathOptions, advance: Advance = lambda step, share: None) -> tuple[Row, ...]:
    """One row for each stage and number of workers; they take turns in one run.

    `latency_ms` is that of one pass over the same images. A pass begins and ends with idle threads, so that
    none reads ahead while another stage is timed. Files come from the page cache. All ways to a batch are
    compared first. Raises EdgefelError for data that cannot be used, and for ways whose batches differ.
    """
    return measured_rows("data-path", _timed_stages(options, advance))


def _timed_stages(options: DataPathOptions, advance: Advance) -> Iterator[Found]:
    with torch.random.fork_rng(devices=[]), torch_threads(options.threads):
        paths = Paths(options, default_preprocessing(model_config(options.model).input_size))
        paths.check()
        calls = {case: paths.call(case) for case in paths.cases()}
        step = partial(advance, f"{options.data}: {len(calls)} in turn")
        for case, timing in measure(calls, options.plan, advance=step).items():
            subject = {
                "stage": case.stage,
                "model": options.model,
                "workers": case.workers,
                "batch": options.batch,
                "images": paths.images,
                "image_px": paths.image_px,
                "threads": torch.get_num_threads() if case.stage in AUGMENTING else None,
            }
            metrics = {**timing.speed(paths.images), "image_bytes": paths.image_bytes}
            notes = timing.verdict.notes
            if (training := options.training) is not None:
                metrics["training_images_per_s"] = training.images_per_s
                metrics["times_training"] = metrics["images_per_s"] / training.images_per_s
                notes.insert(0, f"training: {training.images_per_s:.4g} images/s, {training.source}")
            yield subject, metrics, notes


class Paths:
    """The stages over a fixed choice of images; each begins with the result of the one before it."""

    def __init__(self, options: DataPathOptions, preprocessing: Preprocessing) -> None:
        self._options, self._preprocessing = options, preprocessing
        self._dataset, self._encoded = _chosen(options)
        self._samples = list(self._dataset.samples)
        self._decoded = self._decode()
        source = partial(ImageSource, self._dataset, preprocessing)
        self._sources: dict[int | None, ImageSource] = {
            workers: source(workers=workers, cache_mb=0) for workers in options.workers
        }
        # without limit: here the cache holds no more than the images of a pass
        self._sources[None] = cached = source(workers=max(options.workers), cache_mb=2**40)
        cached.load()
        self._lists = np.split(np.arange(self.images), range(options.batch, self.images, options.batch))
        self._batches = list(cached.batches(self._lists))
        self._augmentation = Augmentation(AugmentConfig(), preprocessing, 0)

    @property
    def images(self) -> int:
        """Of one pass."""
        return len(self._samples)

    @property
    def image_bytes(self) -> float:
        """Mean size of an encoded image."""
        return float(np.mean([len(data) for data in self._encoded]))

    @property
    def image_px(self) -> str:
        """Median width and height, as they lie on the disk: "100x100"."""
        height, width = np.median([image.shape[:2] for image in self._decoded], axis=0)
        return f"{width:.0f}x{height:.0f}"

    def cases(self) -> list[DataPathCase]:
        """What the options ask for."""
        return [
            DataPathCase(stage, workers)
            for stage in self._options.stages
            for workers in (self._options.workers if stage in BY_WORKERS else (None,))
        ]

    def check(self) -> None:
        """Raises EdgefelError unless all ways lead to the same batches as the single stages do."""
        resized = [self._preprocessing.resize_image(image) for image in self._decoded]
        expected = torch.from_numpy(np.stack(resized).transpose(0, 3, 1, 2).copy())
        for workers, source in self._sources.items():
            found = torch.cat([batch.pixels for batch in source.batches(self._lists)])
            if not torch.equal(found, expected):
                way = "the cache" if workers is None else f"{workers} workers"
                raise EdgefelError(
                    f"{self._options.data}: {way} and the single stages give different images; nothing was timed"
                )

    def call(self, case: DataPathCase) -> Callable[[], Any]:
        """One pass."""
        resize = self._preprocessing.resize_image
        source = self._sources[case.workers]
        single: dict[str, Callable[[], Any]] = {
            READ: lambda: [sample.read() for sample in self._samples],
            DECODE: self._decode,
            RESIZE: lambda: [resize(image) for image in self._decoded],
        }
        if case.stage in single:
            return opencv_threads(1)(single[case.stage])
        if case.stage in (READING, CACHED):
            return lambda: [None for _ in source.batches(self._lists)]
        if case.stage == AUGMENT:
            return lambda: self._augment(self._batches)
        return lambda: self._augment(source.batches(self._lists))

    def _decode(self) -> list[Image]:
        paths = (sample.path for sample in self._samples)
        return [decode_rgb(data, path) for data, path in zip(self._encoded, paths, strict=True)]

    def _augment(self, batches: Iterable[Batch]) -> None:
        for step, batch in enumerate(batches):
            self._augmentation(batch.pixels, 0, step)


def training_rate(rows: Path, model: str) -> TrainingRate:
    """The fastest training of a model among rows of `edgefel bench train`. Raises EdgefelError where there is none."""
    found = [row for row in read_results(rows).rows if row.kind == "train" and row.subject["model"] == model]
    if not found:
        raise EdgefelError(
            f"{rows}: holds no training of {model}; measure it with: edgefel bench train --model {model} -o {rows}"
        )
    best = max(found, key=lambda row: float(row.metrics["images_per_s"]))
    return TrainingRate(float(best.metrics["images_per_s"]), f"{best.name}, measured on {best.device}")


def _chosen(options: DataPathOptions) -> tuple[ImageDataset, list[bytes]]:
    """Readable images as a balanced epoch draws them, and their bytes."""
    dataset = open_dataset(options.data)
    order = BalancedEpoch(dataset.targets(), dataset.groups()).indices(0)
    encoded: dict[int, bytes] = {}
    for index in dict.fromkeys(order.tolist()):  # once each: a small class is drawn many times
        sample = dataset.samples[index]
        try:
            data = sample.read()
            sample.load()
        except UnreadableImageError:
            continue
        encoded[index] = data
        if len(encoded) == options.images:
            break
    if len(encoded) < options.batch:
        raise EdgefelError(
            f"{options.data}: {counted(len(encoded), 'readable image')} in an epoch, fewer than one batch of "
            f"{options.batch}; give a smaller batch"
        )
    if any(dataset.samples[index].box is not None for index in encoded):
        raise EdgefelError(
            f"{options.data}: its faces are parts of larger images; the stages are for one face an image"
        )
    return dataset.subset(np.array(list(encoded), np.int64)), list(encoded.values())


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


# what a reader returns: the label and the video of every frame [N]
EpochColumns = tuple[NDArray[np.int16], NDArray[np.int32]]


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
    return label.astype(np.int16), np.repeat(np.arange(videos, dtype=np.int32), lengths)


def open_table(columns: EpochColumns) -> ImageDataset:
    """The train split, here the whole set, as a reader and the set-up of training make it."""
    label, group = columns
    names = tuple(f"video{number}" for number in range(int(group[-1]) + 1))
    table = SampleTable(Frames(group), label, group, names, "train")
    dataset = ImageDataset(Path("cropped_aligned"), LABELS, table)
    return dataset.subset(dataset.in_split("train"))


def bench_epochs(options: EpochOptions, advance: Advance = lambda step, share: None) -> tuple[Row, ...]:
    """Rows for opening the train split, making the sampler and drawing an epoch, timed in turn.

    Raises EdgefelError, before timing, for an epoch that is not balanced.
    """
    return measured_rows("data-path", _timed_epochs(options, advance))


def _timed_epochs(options: EpochOptions, advance: Advance) -> Iterator[Found]:
    columns = draw_columns(options.rows, options.videos)
    dataset = open_table(columns)
    sampler = make_sampler(dataset, options)
    check_balance(dataset, sampler)
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


def check_balance(dataset: ImageDataset, sampler: BalancedEpoch) -> None:
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
