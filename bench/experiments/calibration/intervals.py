"""How good INT8 files are and how they differ, with intervals over calibration draws and held-out images.

Pigeonhole bootstrap for crossed factors (Owen 2007, Annals of Applied Statistics 1(2), arXiv 0712.1111): seeds
(calibration draws) and images are resampled independently, since every seed's file sees the same images. Intervals are
percentiles; with S seeds the part that comes from seeds is too narrow by about sqrt(1 - 1/S).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefel.export.parity.compare import MAX_SQNR_DB

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# of all classes and, with "tail_" before the name, of the tail's; larger is better for each of them
MEASURES = ("accuracy", "macro_f1", "agreement", "sqnr_db")
TAIL = "tail_"
RECALL = "recall_"
LEVEL = 0.95
_CHUNK = 256


@dataclass(frozen=True)
class HeldOut:
    """The N images that judge, and what FP32 says of them.

    labels: C names. targets, predicted: int64 [N], true and FP32 class. signal: float64 [N], squares of the FP32
    logits summed over the classes.
    """

    labels: tuple[str, ...]
    targets: Integers
    predicted: Integers
    signal: Floats


@dataclass(frozen=True)
class FileOutcome:
    """What one file says of the held-out images.

    predicted: int64 [N]. noise: float64 [N], squared differences from the FP32 logits summed over the classes.
    tail: names of the classes that were rare where it was calibrated.
    """

    predicted: Integers
    noise: Floats
    tail: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % interval; None where nothing can be said (no image of the class)."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """Of a difference whose larger side is the better: "better", "worse", or "no difference shown"."""
        if self.low is not None and self.low > 0:
            return "better"
        if self.high is not None and self.high < 0:
            return "worse"
        return "no difference shown"


def measures(held_out: HeldOut, outcome: FileOutcome, weights: Floats) -> dict[str, Floats]:
    """Every measure for B weightings of the images: weights [B, N] -> name -> [B].

    Names: MEASURES, each with TAIL before it for the images of the tail's classes, and RECALL + label. macro_f1
    is the mean F1 of the classes that occur; agreement is with the FP32 label; sqnr_db is of the logits. NaN where
    the weights leave no image.
    """
    eye = np.eye(len(held_out.labels))
    true, said = eye[held_out.targets], eye[outcome.predicted]
    support, called, hits = weights @ true, weights @ said, weights @ (true * said)
    same = outcome.predicted == held_out.predicted
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / support
        f1 = np.where(support > 0, 2 * hits / (support + called), np.nan)
        found: dict[str, Floats] = {}
        for prefix, names in (("", held_out.labels), (TAIL, outcome.tail)):
            member = np.isin(held_out.labels, names)
            inside = member[held_out.targets]
            images = support[:, member].sum(axis=1)
            occurring = (support[:, member] > 0).sum(axis=1)
            ratio = (weights @ (held_out.signal * inside)) / (weights @ (outcome.noise * inside))
            values = (
                hits[:, member].sum(axis=1) / images,
                np.nansum(f1[:, member], axis=1) / occurring,
                (weights @ (same & inside)) / images,
                np.clip(10 * np.log10(ratio), -MAX_SQNR_DB, MAX_SQNR_DB),
            )
            found |= {prefix + name: value for name, value in zip(MEASURES, values, strict=True)}
    return found | {RECALL + label: recall[:, i] for i, label in enumerate(held_out.labels)}


class TwoLevelBootstrap:
    """Resamples once for all files, so that differences between them are paired in seeds and in images.

    `outcomes` holds all files; the methods take their positions, one file per seed, in the order of the seeds.
    """

    def __init__(
        self, held_out: HeldOut, outcomes: Sequence[FileOutcome], seeds: int, replicates: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        count = len(held_out.targets)
        self._drawn = rng.integers(seeds, size=(replicates, seeds))
        self.points = [measures(held_out, outcome, np.ones((1, count))) for outcome in outcomes]
        parts: list[list[dict[str, Floats]]] = [[] for _ in outcomes]
        # all weights at once would be gigabytes on a large test set
        for start in range(0, replicates, _CHUNK):
            size = min(_CHUNK, replicates - start)
            weights = rng.multinomial(count, np.full(count, 1.0 / count), size=size).astype(np.float64)
            for part, outcome in zip(parts, outcomes, strict=True):
                part.append(measures(held_out, outcome, weights))
        self._replicates = [
            {name: np.concatenate([piece[name] for piece in part]) for name in part[0]} for part in parts
        ]

    def means(self, files: Sequence[int]) -> dict[str, Interval]:
        """Every measure of the files of one strategy."""
        return {name: _interval(*self._values(files, name)) for name in self.points[0]}

    def differences(self, files: Sequence[int], others: Sequence[int]) -> dict[str, Interval]:
        """Every measure of `files` minus that of `others`, paired."""
        found = {}
        for name in self.points[0]:
            (point, resampled), (other, also) = self._values(files, name), self._values(others, name)
            found[name] = _interval(point - other, resampled - also)
        return found

    def _values(self, files: Sequence[int], name: str) -> tuple[float, Floats]:
        """The mean over the files of a measure, and that of every replicate."""
        table = np.stack([self._replicates[file][name] for file in files])
        chosen = table[self._drawn, np.arange(table.shape[1])[:, None]]
        return float(np.mean([self.points[file][name][0] for file in files])), chosen.mean(axis=1)


def _interval(value: float, resampled: Floats) -> Interval:
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not known.size:
        return Interval(None, None, None)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
