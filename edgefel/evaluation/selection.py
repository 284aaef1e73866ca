"""Choice of the images in a report: the most informative ones, or those given by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefel.data.dataset import ImageDataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.inference import Outputs
from edgefel.evaluation.metrics import IntArray
from edgefel.runtime.confidence import entropy_confidence
from edgefel.text import counted

CORRECTED, SPOILED = "corrected by the head", "spoiled by the head"
SURE, UNSURE, ASKED = "most confident", "least confident", "asked for"


@dataclass(frozen=True)
class Shown:
    """row: in the outputs. why: the reason for showing the image."""

    row: int
    why: str


def choose_images(outputs: Outputs, targets: IntArray, count: int, *, head: bool) -> tuple[Shown, ...]:
    """At most `count` images, in turn of each kind: labels that the head put right, and that it spoiled, those it
    moved most first (by the sum of absolute changes); the most and the least confident ones. Each image once.

    head: whether there is one; without it nothing can be corrected.
    """
    confidence = entropy_confidence(outputs.corrected)
    lists = {SURE: np.argsort(-confidence, kind="stable"), UNSURE: np.argsort(confidence, kind="stable")}
    if head:
        moved = np.argsort(-np.abs(outputs.corrected - outputs.primary).sum(1), kind="stable")
        before = outputs.primary.argmax(1) == targets
        after = outputs.corrected.argmax(1) == targets
        turned = {CORRECTED: moved[(~before & after)[moved]], SPOILED: moved[(before & ~after)[moved]]}
        lists = turned | lists
    found: dict[int, str] = {}
    for place in range(len(targets)):
        for why, rows in lists.items():
            if place < len(rows) and len(found) < count:
                found.setdefault(int(rows[place]), why)
    order = list(lists)
    return tuple(Shown(row, why) for row, why in sorted(found.items(), key=lambda pair: order.index(pair[1])))


def find_images(dataset: ImageDataset, paths: Sequence[Path]) -> tuple[int, ...]:
    """The index in the data set of each path: as the data set names it, or the end of such a name.

    Raises EdgefelError for a path that no image has, or several have.
    """
    if not paths:
        return ()
    names = ["/" + os.path.normpath(sample.path).replace(os.sep, "/") for sample in dataset.samples]
    found = []
    for path in paths:
        end = "/" + os.path.normpath(path).replace(os.sep, "/").lstrip("/")
        matches = [index for index, name in enumerate(names) if name.endswith(end)]
        if len(matches) != 1:
            what = f"{len(matches)} of" if matches else "none of"
            raise EdgefelError(
                f"{path}: {what} the {counted(len(names), 'image')} of {dataset.root} end like this; give a "
                "path as in the data set, of the split that is evaluated"
            )
        found.append(matches[0])
    return tuple(dict.fromkeys(found))


def rows_of(outputs: Outputs, dataset: ImageDataset, indices: Sequence[int]) -> tuple[Shown, ...]:
    """Images that were asked for; raises EdgefelError for one that could not be read."""
    row_of = {int(index): row for row, index in enumerate(outputs.indices)}
    for index in indices:
        if index not in row_of:
            raise EdgefelError(f"{dataset.samples[index].path}: cannot be read, so it cannot be shown")
    return tuple(Shown(row_of[index], ASKED) for index in indices)
