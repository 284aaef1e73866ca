"""INT8 calibrated on balanced, random and most-frequent-class images of a long tail, judged on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefel.bench.experiments.calibration.intervals import FileOutcome, HeldOut, Interval, TwoLevelBootstrap
from edgefel.bench.experiments.calibration.long_tail import LongTail, long_tail
from edgefel.calib.calibration_set import HELD_OUT, calibration_pool
from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.reader import CalibrationReader, readable
from edgefel.calib.sampling import (
    DEFAULT_GROUP_CAP,
    SampleChoice,
    balanced_samples,
    unbalanced_samples,
)
from edgefel.calib.thresholds import DEFAULT_METHOD, METHODS, CalibrationMethod
from edgefel.data.dataset import ImageDataset, MatchedDataset
from edgefel.data.labels import LabelMatch
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.gate import onnx_outputs
from edgefel.export.precision.precisions import Ranges, make_graphs
from edgefel.progress import SILENT, Progress

BALANCED, RANDOM, MOST_FREQUENT = STRATEGIES = ("balanced", "random", "most-frequent")
# decided before looking: the verdict is about this measure, the others are beside it
PRIMARY = "macro_f1"
PRECISION = "int8"
REPLICATES = 2000
_BATCH = 16


@dataclass(frozen=True)
class ComparisonOptions:
    """per_class: sizes, in images per class of the balanced set; the other sets get as many images in all.

    seeds: how many draws of long tail and sets. imbalance: most frequent : rarest class, 1 leaves the data as it is.
    images: how many held-out images judge, all by default. seed: of the first draw.
    """

    per_class: tuple[int, ...] = (1, 4, 16)
    seeds: int = 5
    imbalance: float = 50.0
    method: CalibrationMethod = DEFAULT_METHOD
    images: int | None = None
    group_cap: int = DEFAULT_GROUP_CAP
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.per_class or min(self.per_class) < 1 or len(set(self.per_class)) < len(self.per_class):
            raise EdgefelError(f"per_class {self.per_class}: give sizes of at least 1, each once")
        if self.seeds < 2:
            raise EdgefelError(
                f"seeds {self.seeds}: an interval needs at least 2 draws; 5 or more are better"
            )
        if self.method not in METHODS:
            raise EdgefelError(f"calibration method '{self.method}': choose one of {', '.join(METHODS)}")
        if self.images is not None and self.images < 1:
            raise EdgefelError(f"images {self.images}: give at least 1")


@dataclass(frozen=True)
class CalibrationRun:
    """One calibration: images drawn from the long tail of `seed`, with a size and a strategy."""

    strategy: str
    per_class: int
    seed: int
    pool: LongTail
    choice: SampleChoice


@dataclass(frozen=True)
class ComparisonRow:
    """Result of one `CalibrationRun`. used: number of readable images. measures: see `intervals.measures`."""

    strategy: str
    per_class: int
    seed: int
    used: int
    counts: dict[str, int]
    measures: dict[str, float | None]


@dataclass(frozen=True)
class StrategySummary:
    """One strategy at one size, over all seeds; per_class None is the FP32 file, which nothing calibrates."""

    strategy: str
    per_class: int | None
    measures: dict[str, Interval]


@dataclass(frozen=True)
class Difference:
    """Balanced minus `against` at one size, paired in seeds and held-out images."""

    per_class: int
    against: str
    measures: dict[str, Interval]

    @property
    def verdict(self) -> str:
        """In plain words, from the interval of the measure that was decided on beforehand."""
        verdict = self.measures[PRIMARY].verdict
        return f"{verdict} at this size" if verdict == "no difference shown" else verdict


@dataclass(frozen=True)
class ComparisonPlan:
    """All that is decided before anything runs. split, judging: the held-out images, of the matched data set."""

    options: ComparisonOptions
    matched: MatchedDataset
    split: str
    judging: tuple[int, ...]
    runs: tuple[CalibrationRun, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are judged, in the order of the data."""
        return self.matched.match.labels

    @property
    def pools(self) -> tuple[LongTail, ...]:
        """The long tail of each seed."""
        return tuple({run.seed: run.pool for run in self.runs}.values())


@dataclass(frozen=True)
class Comparison:
    """held_out: images per class that judged. skipped: unreadable images."""

    plan: ComparisonPlan
    held_out: dict[str, int]
    rows: tuple[ComparisonRow, ...]
    summaries: tuple[StrategySummary, ...]
    differences: tuple[Difference, ...]
    skipped: tuple[Path, ...]


def plan_comparison(
    dataset: ImageDataset, labels: Sequence[str], options: ComparisonOptions
) -> ComparisonPlan:
    """Draws every set, opening no image: data that will not do is refused before the minutes of work.

    The images to calibrate on come from the split train, cut to a long tail; the split test, else val, judges.
    Classes are matched by name; where one side has more, the common ones are judged (`ImageDataset.matched`). Raises
    EdgefelError for data that shares too few classes with the model, without a held-out split, or with too few
    images.
    """
    matched = dataset.matched(labels)
    split, judging = held_out_images(matched.dataset, options)
    return ComparisonPlan(options, matched, split, tuple(judging), tuple(plan_runs(matched.dataset, options)))


def compare_strategies(
    graph: onnx.ModelProto, preprocessing: Preprocessing, plan: ComparisonPlan, progress: Progress = SILENT
) -> Comparison:
    """Calibrates the FP32 `graph` on each strategy's images and judges the INT8 files in ONNX Runtime.

    Each is the file that an export of `graph` writes for ONNX Runtime (`PRECISION`): of its two INT8 files the one that
    runs where it is judged, and has the most quantizers. The held-out images stay in memory at the model's size. Raises
    EdgefelError for images none of which can be read, and for a model whose outputs are not finite.
    """
    options, runs, dataset = plan.options, plan.runs, plan.matched.dataset
    skipped: list[Path] = []
    judge = _Judge.read(plan, preprocessing, progress, skipped)
    progress.start("FP32 reference", len(judge.crops))
    logits, predicted = judge.outputs(graph)
    held_out = HeldOut(plan.labels, judge.targets, predicted, np.square(logits).sum(axis=1))
    progress.start(f"{len(runs)} INT8 files", sum(len(run.choice.indices) + len(judge.crops) for run in runs))
    files, used = [], []
    for run in runs:
        reader = CalibrationReader(dataset, run.choice.indices, preprocessing)
        exported = int8_file(graph, reader, options.method, progress)
        progress.advance(len(reader.skipped))
        int8, predicted = judge.outputs(exported)
        files.append(FileOutcome(predicted, np.square(int8 - logits).sum(axis=1), run.pool.tail))
        used.append(len(reader) - len(reader.skipped))
        skipped += reader.skipped
    # FP32 is calibrated by nothing, but which classes are the tail differs by seed, and so do its tail measures
    files += [FileOutcome(held_out.predicted, np.zeros(len(logits)), pool.tail) for pool in plan.pools]
    progress.start("intervals")
    bootstrap = TwoLevelBootstrap(held_out, files, options.seeds, REPLICATES, options.seed)
    places: dict[tuple[str, int], list[int]] = {}
    for position, run in enumerate(runs):
        places.setdefault((run.strategy, run.per_class), []).append(position)
    return Comparison(
        plan=plan,
        held_out={name: int((judge.targets == i).sum()) for i, name in enumerate(plan.labels)},
        rows=tuple(
            ComparisonRow(run.strategy, run.per_class, run.seed, count, run.choice.counts, _plain(point))
            for run, count, point in zip(runs, used, bootstrap.points, strict=False)
        ),
        summaries=(
            StrategySummary("fp32", None, bootstrap.means(range(len(runs), len(files)))),
            *(StrategySummary(*place, bootstrap.means(own)) for place, own in places.items()),
        ),
        differences=tuple(
            Difference(size, other, bootstrap.differences(places[BALANCED, size], places[other, size]))
            for size in options.per_class
            for other in (RANDOM, MOST_FREQUENT)
        ),
        skipped=tuple(dict.fromkeys(skipped)),
    )


def int8_file(
    graph: onnx.ModelProto, reader: CalibrationReader, method: CalibrationMethod, progress: Progress = SILENT
) -> onnx.ModelProto:
    """The file PRECISION that an export of the FP32 `graph` writes, calibrated on the reader's images."""

    def calibrate(form: onnx.ModelProto, activations: Sequence[str]) -> Ranges:
        found = collect_activations(form, activations, reader, progress.advance)
        return Ranges(activation_scales(found, method), {}, ends=activation_ends(found, method))

    return make_graphs(graph, (PRECISION,), anchors=None, calibrate=calibrate)[PRECISION].model


def held_out_images(dataset: ImageDataset, options: ComparisonOptions) -> tuple[str, list[int]]:
    """The split that judges (test, else val), and which of its images; raises EdgefelError without one."""
    for split in reversed(HELD_OUT):
        indices = [i for i, sample in enumerate(dataset.samples) if sample.split == split]
        if not indices:
            continue
        if options.images is not None:
            shuffled = np.random.default_rng([options.seed, 1]).permutation(indices)
            indices = sorted(shuffled[: options.images].tolist())
        shown = {dataset.labels[dataset.samples[i].label] for i in indices}
        if lacking := [label for label in dataset.labels if label not in shown]:
            raise EdgefelError(
                f"{dataset.root}: the {len(indices)} held-out images of the split {split} show no "
                f"{', '.join(lacking)}; give more of them, or a larger --images"
            )
        return split, indices
    raise EdgefelError(
        f"{dataset.root}: has no split test or val to judge on; name splits in labels.csv or sort the class "
        "folders into train/, val/ and test/"
    )


def plan_runs(dataset: ImageDataset, options: ComparisonOptions) -> list[CalibrationRun]:
    """Every calibration, by size, then seed, then strategy; all are drawn before the first one runs.

    The sets of one seed and size come from one long tail and have the same number of images, that of the
    balanced set (smaller than asked for where a rare class has less to give). The long tail of a seed rotates which
    class is how rare. Raises EdgefelError if the data is too small.
    """
    train = [i for i in calibration_pool(dataset) if dataset.samples[i].split not in HELD_OUT]
    if not train:
        raise EdgefelError(f"{dataset.root}: has no split train to calibrate on; name splits in labels.csv")
    seeds = range(options.seed, options.seed + options.seeds)
    pools = {seed: long_tail(dataset, options.imbalance, seed, seed, among=train) for seed in seeds}
    runs = []
    for size in options.per_class:
        for seed, pool in pools.items():
            balanced = balanced_samples(dataset, size, options.group_cap, seed, among=pool.indices)
            rest = (dataset, len(balanced.indices), options.group_cap, seed)
            others = (unbalanced_samples(*rest, among=pool.indices, one_class=one) for one in (False, True))
            choices = zip(STRATEGIES, (balanced, *others), strict=True)
            runs += [CalibrationRun(strategy, size, seed, pool, choice) for strategy, choice in choices]
    return runs


@dataclass(frozen=True)
class _Judge:
    """The held-out images: crops, and class indices, int64 [N]."""

    crops: list[Image]
    targets: NDArray[np.int64]
    match: LabelMatch
    preprocessing: Preprocessing
    progress: Progress

    @classmethod
    def read(
        cls, plan: ComparisonPlan, preprocessing: Preprocessing, progress: Progress, skipped: list[Path]
    ) -> _Judge:
        """Those that are readable; the paths of the others are appended to `skipped`."""
        dataset = plan.matched.dataset
        progress.start("read held-out images", len(plan.judging))
        crops, targets = [], []
        for index, image in readable(dataset, plan.judging, skipped):
            crops.append(preprocessing.resize_image(image))
            targets.append(dataset.samples[index].label)
            progress.advance()
        if not crops:
            raise EdgefelError(
                f"{dataset.root}: none of {len(skipped)} held-out images can be read, e.g. {skipped[0]}"
            )
        return cls(crops, np.array(targets, dtype=np.int64), plan.matched.match, preprocessing, progress)

    def outputs(self, model: onnx.ModelProto) -> tuple[Any, Any]:
        """Logits float64 [N, C]; the shared class, int64 [N], that is the most probable after the correction."""
        starts = range(0, len(self.crops), _BATCH)
        rest = self.preprocessing.after_resizing
        batches = (rest.batch(self.crops[at : at + _BATCH]) for at in starts)
        names = ("logits", "probabilities")
        found = onnx_outputs(model.SerializeToString(), batches, self.progress, outputs=names)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise EdgefelError("the model's outputs are not finite; compare with an earlier checkpoint")
        predicted = self.match.restrict(found["probabilities"]).argmax(axis=1)
        return found["logits"].astype(np.float64), predicted


def _plain(point: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in point.items()}
