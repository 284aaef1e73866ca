"""Accuracy as published, and without the judged images that have a copy in another split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS, ImageDataset
from edgefel.data.inspection.duplicates import Elsewhere, copies_elsewhere
from edgefel.evaluation.groups import Share, wilson
from edgefel.evaluation.metrics import FloatArray, IntArray, Metrics, compute_metrics
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.evaluation.evaluate import Evaluation

SWITCHED_OFF = "not looked for: switched off"
ALL_SPLITS = "not looked for: all splits are judged together"
NO_OTHER = "none: the data set has no other split"
GIVEN = "not looked for: the images were given, not the data set they are of"


@dataclass(frozen=True)
class WithoutCopies:
    """What is left of the judged images without those that have a copy in another split.

    splits: the others. equal_files, look_alikes: images with an equal file there, and of the rest those with one that
    looks alike (`find_elsewhere`). images: left. as_published: accuracy on all images; accuracy: on those left, by
    what the model predicts, as with_head and without_head are; these are None where no image is left, and with_head
    where there is no head.
    """

    splits: tuple[str, ...]
    equal_files: int
    look_alikes: int
    images: int
    as_published: Share
    accuracy: Share | None
    with_head: Metrics | None
    without_head: Metrics | None


def look_for_copies(
    whole: ImageDataset, split: str, workers: int, progress: Callable[[int], None]
) -> Elsewhere | str:
    """Which images of the split, in its order, have a copy in another one; or why that is not known."""
    if not other_splits(whole, split):
        return NO_OTHER
    found = copies_elsewhere(whole, workers=workers, progress=progress)
    own = whole.in_split(split)
    return Elsewhere(found.equal[own], found.alike[own])


def other_splits(whole: ImageDataset, split: str) -> tuple[str, ...]:
    """Those that hold images."""
    return tuple(name for name in SPLITS if name != split and whole.in_split(name).size)


def judge_without_copies(
    splits: tuple[str, ...],
    found: Elsewhere,
    rows: NDArray[np.int64],
    primary: FloatArray,
    corrected: FloatArray | None,
    targets: IntArray,
) -> WithoutCopies:
    """rows: of the judged images [N] among those of `found`. primary, corrected [N, C]; corrected is None where no
    head corrects. targets [N]."""
    left = ~found.any[rows]
    final = primary if corrected is None else corrected
    hits = final.argmax(1) == targets

    def judged(probabilities: FloatArray | None) -> Metrics | None:
        if probabilities is None or not left.any():
            return None
        return compute_metrics(probabilities[left], targets[left])

    return WithoutCopies(
        splits=splits,
        equal_files=int(found.equal[rows].sum()),
        look_alikes=int(found.alike[rows].sum()),
        images=int(left.sum()),
        as_published=wilson(int(hits.sum()), len(hits)),
        accuracy=wilson(int(hits[left].sum()), int(left.sum())) if left.any() else None,
        with_head=judged(corrected),
        without_head=judged(primary),
    )


def copies_lines(evaluation: Evaluation) -> list[str]:
    """Accuracy as published and without copies, with counts and 95 % intervals; or why it is not known."""
    rest = evaluation.without_copies
    if rest is None:
        return [f"copies in other splits: {evaluation.copies_unknown}"]
    where = " or ".join(rest.splits)
    gone = rest.equal_files + rest.look_alikes
    if not gone:
        return [f"copies: none of {counted(evaluation.images, 'image')} has one in {where}"]
    found = (
        f"copies: {gone} of the {counted(evaluation.images, 'image')} {'has' if gone == 1 else 'have'} "
        f"one in {where} "
        f"({rest.equal_files} an equal file, {rest.look_alikes} one that looks alike)"
    )
    if rest.accuracy is None:
        return [f"{found}; without them no image is left"]
    return [found, f"accuracy as published: {_said(rest.as_published)}; without them: {_said(rest.accuracy)}"]


def _said(share: Share) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {share.images}"
