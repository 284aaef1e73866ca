"""Accuracy and recall by attribute of the people in the images, with confidence intervals.

Attributes are columns of the CSV that lists the images, matched by path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import FloatArray, IntArray
from edgefel.files.read import open_csv
from edgefel.files.remote import as_path, is_address, joined

# used by default where they exist
KNOWN_COLUMNS = ("skin", "skin_tone", "glasses", "age", "sex", "gender", "ethnicity", "race")
CSV_NAME = "labels.csv"
# numbers with more different values than this are cut into quarters of equally many images
MOST_NUMBERS = 8
_NOT_ATTRIBUTES = ("path", "label")
GROUP = "group"
# a value with fewer images is not compared: its interval spans half of everything
LEAST_IMAGES = 20
# of one class, for the recall
LEAST_OF_CLASS = 10


def attribute_columns(dataset: ImageDataset, by: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns to judge by: those of `by`, or without it every known one that is there.

    Raises EdgefelError for a column that is not there, and for any column if the data set has no CSV.
    """
    file = _file(dataset.root)
    if file is None:
        if by:
            raise EdgefelError(
                f"{dataset.root}: has no {CSV_NAME} and is no CSV manifest, so there is no column {by[0]!r}; "
                "leave out --by"
            )
        return ()
    with open_csv(file) as table:
        header = table.columns
    there = [name for name in header if name not in _NOT_ATTRIBUTES] if "path" in header else []
    if by is None:
        return tuple(name for name in KNOWN_COLUMNS if name in there)
    for name in by:
        if name not in there:
            raise EdgefelError(f"{file}: no column {name!r}; choose one of: {', '.join(there) or 'none'}")
    return tuple(dict.fromkeys(by))


def read_attributes(
    dataset: ImageDataset, columns: Sequence[str], indices: NDArray[np.int64]
) -> dict[str, tuple[str, ...]]:
    """The value of every column for each of the samples `indices` [N], "" where none is given.

    Numbers with more than MOST_NUMBERS values become ranges of equally many images, such as "0.21 to 0.48".
    """
    file = _file(dataset.root)
    if not columns or file is None:
        return {}
    wanted = {_normal(dataset.samples[int(i)].path): row for row, i in enumerate(indices)}
    values = {name: [""] * len(indices) for name in columns}
    with open_csv(file) as table:
        at = {name: table.columns.index(name) for name in ("path", *columns)}
        for line in table:
            cells = {name: line[place].strip() if place < len(line) else "" for name, place in at.items()}
            row = wanted.get(_normal(as_path(joined(str(file.parent), cells["path"]))))
            if row is not None:
                for name in columns:
                    values[name][row] = cells[name]
    return {name: _ranges(column) for name, column in values.items()}


def _normal(path: Path) -> str:
    return str(path) if is_address(path) else os.path.normpath(path)


def _file(root: Path) -> Path | None:
    file = root if root.suffix.lower() == ".csv" else root / CSV_NAME
    return file if file.is_file() else None


def _ranges(values: Sequence[str]) -> tuple[str, ...]:
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return tuple(values)  # names
    known = numbers[np.isfinite(numbers)]
    if len(np.unique(known)) <= MOST_NUMBERS:
        return tuple(values)
    ends = np.unique(np.quantile(known, (0, 0.25, 0.5, 0.75, 1)))
    part = np.clip(np.searchsorted(ends, numbers, side="right") - 1, 0, len(ends) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(ends)]
    return tuple(names[p] if np.isfinite(n) else "" for p, n in zip(part, numbers, strict=True))


@dataclass(frozen=True)
class Share:
    """hits of images, and their ratio `value` with its 95 % Wilson interval (low, high)."""

    hits: int
    images: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """The images with one value of an attribute. recall: per class, None where it does not occur."""

    value: str
    accuracy: Share
    recall: tuple[Share | None, ...]


@dataclass(frozen=True)
class Gap:
    """The largest difference between two values of an attribute. of: "accuracy", or the class whose recall it is.

    overlap: whether their 95 % intervals do. Where they do not, the difference is more than chance, unless it is
    the largest of a great many.
    """

    of: str
    best: str
    worst: str
    difference: float
    overlap: bool


@dataclass(frozen=True)
class Attribute:
    """An attribute of the people or recordings.

    scores: of the values with at least LEAST_IMAGES images, most images first. values: how many there are in
    all. unknown: images without a value. accuracy_gap: None with fewer than 2 scores. recall_gaps: per class, where
    two values have at least LEAST_OF_CLASS images of it; the largest first. spread_*: accuracy over all values,
    each counted once: mean, standard deviation, least and greatest.
    """

    name: str
    values: int
    unknown: int
    scores: tuple[Score, ...]
    accuracy_gap: Gap | None
    recall_gaps: tuple[Gap, ...]
    spread_mean: float
    spread_std: float
    spread_least: float
    spread_greatest: float


def wilson(hits: int, images: int) -> Share:
    """A share with its 95 % interval (Wilson 1927; also right for few images and for shares near 0 and 1).

    Raises ValueError for no images or more hits than images.
    """
    from scipy.stats import binomtest

    low, high = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    return Share(hits, images, hits / images, float(low), float(high))


def judge_attribute(
    name: str, values: Sequence[str], probabilities: FloatArray, targets: IntArray, labels: Sequence[str]
) -> Attribute | None:
    """Scores of every value of `values` [N]; "" is no value. None where no two images share a value, or where
    there is only one value: nothing can be compared."""
    names = np.array(values, dtype=object)
    known = {value: np.flatnonzero(names == value) for value in dict.fromkeys(values) if value}
    if len(known) < 2 or max(map(len, known.values())) < 2:
        return None
    correct = probabilities.argmax(1) == targets
    order = sorted(known, key=lambda value: (-len(known[value]), value))
    scores = tuple(
        _score(value, correct[known[value]], targets[known[value]], len(labels))
        for value in order
        if len(known[value]) >= LEAST_IMAGES
    )
    accuracies = value_accuracies(values, correct)
    classes = [
        gap
        for number, label in enumerate(labels)
        if (gap := _gap(label, [(s.value, s.recall[number]) for s in scores], LEAST_OF_CLASS))
    ]
    return Attribute(
        name=name,
        values=len(known),
        unknown=int((names == "").sum()),
        scores=scores,
        accuracy_gap=_gap("accuracy", [(s.value, s.accuracy) for s in scores], LEAST_IMAGES),
        recall_gaps=tuple(sorted(classes, key=lambda gap: -gap.difference)),
        spread_mean=float(accuracies.mean()),
        spread_std=float(accuracies.std()),
        spread_least=float(accuracies.min()),
        spread_greatest=float(accuracies.max()),
    )


def value_accuracies(values: Sequence[str], correct: NDArray[Any]) -> NDArray[np.float64]:
    """Accuracy of every value of `values` [N] that is not "", in the order in which they come."""
    names = np.array(values, dtype=object)
    return np.array([correct[names == value].mean() for value in dict.fromkeys(values) if value])


def _score(value: str, correct: NDArray[Any], targets: IntArray, classes: int) -> Score:
    each = [correct[targets == number] for number in range(classes)]
    recall = tuple(wilson(int(own.sum()), len(own)) if len(own) else None for own in each)
    return Score(value, wilson(int(correct.sum()), len(correct)), recall)


def _gap(of: str, shares: Sequence[tuple[str, Share | None]], least: int) -> Gap | None:
    enough = [(value, share) for value, share in shares if share is not None and share.images >= least]
    if len(enough) < 2:
        return None
    best = max(enough, key=lambda pair: pair[1].value)
    worst = min(enough, key=lambda pair: pair[1].value)
    difference = best[1].value - worst[1].value
    return Gap(of, best[0], worst[0], difference, bool(best[1].low <= worst[1].high))
