"""Accuracy of contenders on labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.bench.compare.contenders import COMPILED, EAGER, Contender
from edgefel.calib.images import draw_evenly
from edgefel.data.dataset import ImageDataset, MatchedDataset
from edgefel.data.images import UnreadableImageError
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
    `open_dataset`. Raises EdgefelError if the data shares too few classes with the model.
    """
    matched = open_dataset(data, layout=layout).matched(labels)
    dataset = matched.dataset
    splits = [sample.split for sample in dataset.samples]
    pool = [index for index, split in enumerate(splits) if split in HELD_OUT] or list(range(len(splits)))
    return matched, draw_evenly(dataset, pool, count, seed=0)


def notes(matched: MatchedDataset) -> list[str]:
    """What a reader of the accuracy must know: classes that were left out, and the file of FER+ votes."""
    votes = matched.dataset.votes
    return [*matched.notes(), *([] if votes is None else [f"accuracy by the votes of {votes.file}"])]


def judge(
    contenders: Sequence[Contender],
    matched: MatchedDataset,
    chosen: Sequence[int],
    preprocessing: Preprocessing,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Judgement]:
    """By contender's name: images, accuracy, macro_f1, recall by class, agreement with eager PyTorch if it takes part.

    torch.compile gets eager PyTorch's labels: their outputs are compared. Raises EdgefelError for no readable image.
    """
    own = {one.name: one for one in contenders if one.backend != COMPILED}
    runs = {name: one.probabilities for name, one in own.items()}
    found = label_images(runs, matched.dataset, chosen, advance, prepare=preprocessing.batch)
    eager = {one.subject.name: found.probabilities[one.name] for one in own.values() if one.backend == EAGER}
    judged: dict[str, Judgement] = {}
    for one in contenders:
        probabilities = found.probabilities.get(one.name.replace(COMPILED, EAGER))
        if probabilities is None:
            continue
        metrics = compute_metrics(matched.match.restrict(probabilities), np.asarray(found.targets))
        judged[one.name] = judgement = {
            "images": len(found.targets),
            "accuracy": metrics.accuracy,
            "macro_f1": metrics.macro_f1,
            "recall": dict(zip(matched.match.labels, metrics.recall, strict=True)),
        }
        if (reference := eager.get(one.subject.name)) is not None:
            judgement["agreement"] = float(np.mean(probabilities.argmax(1) == reference.argmax(1)))
    return judged


@dataclass(frozen=True)
class Labelled:
    """probabilities: [N, C] by name. targets: labels of the data set. image: one. skipped: unreadable files."""

    probabilities: dict[str, npt.NDArray[np.float64]]
    targets: list[int]
    image: Image
    skipped: list[str]


def label_images(
    runs: Mapping[str, Callable[[Any], npt.NDArray[np.float32]]],
    dataset: ImageDataset,
    chosen: Sequence[int],
    advance: Callable[[int, int], None],
    *,
    prepare: Callable[[list[Image]], Any] = list,
    workers: int = 1,
) -> Labelled:
    """Runs everything on the chosen images, in batches that `prepare` makes; `workers` of `runs` at the same time.

    advance: called with (images done, images). Raises EdgefelError where no image can be read.
    """
    parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in runs}
    targets: list[int] = []
    skipped: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(chosen), BATCH):
            images: list[Image] = []
            for index in chosen[start : start + BATCH]:
                sample = dataset.samples[index]
                try:
                    images.append(dataset.load(index))
                    targets.append(sample.label)
                except UnreadableImageError:
                    skipped.append(str(sample.path))
            if images:
                image, batch = images[0], prepare(images)
                found = pool.map(lambda run, batch=batch: run(batch), runs.values())
                for own, probabilities in zip(parts.values(), found, strict=True):
                    own.append(probabilities.astype(np.float64))
            advance(min(start + BATCH, len(chosen)), len(chosen))
    if not targets:
        raise EdgefelError(f"{dataset.root}: no image can be read, so nothing was compared")
    return Labelled({name: np.concatenate(own) for name, own in parts.items()}, targets, image, skipped)
