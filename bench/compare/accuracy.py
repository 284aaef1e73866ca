"""Accuracy of contenders on labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.bench.compare.contenders import COMPILED, EAGER, Contender
from edgefel.calib.images import draw_evenly
from edgefel.data.dataset import ImageDataset, MatchedDataset, UnreadableImageError
from edgefel.data.labels import LabelMatch
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import compute_metrics

BATCH = 16
HELD_OUT = ("val", "test")

Judgement = dict[str, Any]


def choose(
    data: str | os.PathLike[str], labels: Sequence[str], count: int, layout: str | None = None
) -> tuple[MatchedDataset, tuple[int, ...]]:
    """A data set and `count` of its held-out images, spread as evenly over the classes as possible.

    Held out are the splits val and test, or everything where there are no splits. layout: as for
    `open_dataset`. Raises EdgefelError if the data shares too few classes with the model
    (`ImageDataset.matched`).
    """
    matched = open_dataset(data, layout=layout).matched(labels)
    dataset = matched.dataset
    splits = [sample.split for sample in dataset.samples]
    pool = [index for index, split in enumerate(splits) if split in HELD_OUT] or list(range(len(splits)))
    return matched, draw_evenly(dataset, pool, count, seed=0)


def judge(
    contenders: Sequence[Contender],
    matched: MatchedDataset,
    chosen: Sequence[int],
    preprocessing: Preprocessing,
    advance: Callable[[int], None] = lambda images: None,
) -> dict[str, Judgement]:
    """By contender's name: images, accuracy, macro_f1, recall by class, agreement with eager PyTorch if it
    takes part, and of FER+ votes, the file that labels come from.

    torch.compile gets the labels of eager PyTorch: their outputs were compared. Raises EdgefelError where no
    image can be read.
    """
    dataset = matched.dataset
    own = {one.name: one for one in contenders if one.backend != COMPILED}
    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in own}
    targets: list[int] = []
    for labels, crops, _ in labelled_batches(dataset, chosen):
        batch = preprocessing.batch(crops)
        for name, contender in own.items():
            found[name].append(contender.probabilities(batch))
        targets += labels
        advance(len(crops))
    if not targets:
        raise EdgefelError(f"{dataset.root}: no image can be read, so nothing was judged")
    merged = {name: np.concatenate(parts) for name, parts in found.items()}
    eager = {one.subject.name: merged[one.name] for one in own.values() if one.backend == EAGER}
    votes = {} if dataset.votes is None else {"votes": dataset.votes.file}
    return {
        one.name: _judgement(
            merged[_labelled_as(one)], np.asarray(targets), matched.match, eager.get(one.subject.name)
        )
        | votes
        for one in contenders
        if _labelled_as(one) in merged
    }


def _labelled_as(contender: Contender) -> str:
    return contender.name.replace(COMPILED, EAGER)


def _judgement(
    probabilities: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    match: LabelMatch,
    eager: npt.NDArray[np.float32] | None,
) -> Judgement:
    metrics = compute_metrics(match.restrict(probabilities.astype(np.float64)), targets)
    judgement: Judgement = {
        "images": len(targets),
        "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1,
        "recall": dict(zip(match.labels, metrics.recall, strict=True)),
    }
    if eager is not None:
        judgement["agreement"] = float(np.mean(probabilities.argmax(1) == eager.argmax(1)))
    return judgement


def labelled_batches(
    dataset: ImageDataset, chosen: Sequence[int], skipped: list[str] | None = None
) -> Iterator[tuple[list[int], list[Image], int]]:
    """Labels and images in batches, and how many of `chosen` are done; unreadable ones go to `skipped`."""
    labels: list[int] = []
    crops: list[Image] = []
    for done, index in enumerate(chosen, 1):
        try:
            crops.append(dataset.load(index))
            labels.append(dataset.samples[index].label)
        except UnreadableImageError:
            if skipped is not None:
                skipped.append(str(dataset.samples[index].path))
        if crops and (len(crops) == BATCH or done == len(chosen)):
            yield labels, crops, done
            labels, crops = [], []
