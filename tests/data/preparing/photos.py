"""Images of squares, which a detector of squares takes for faces, and how they are prepared."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import RED, SquareDetector, scene

from edgefel.data.dataset import ImageDataset
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import open_dataset
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.data.preparing.run import prepare
from edgefel.errors import EdgefelError
from edgefel.files.resumable import partial_folder
from edgefel.runtime.faces import RuntimeFaces
from edgefel.tasks.threads import Threads

SIZE = 24
FACES = [number for number in range(40) if number % 10 != 9]


def squares():
    return RuntimeFaces(SquareDetector(), SIZE)


def whole():
    return RuntimeFaces(None, SIZE)


def run(dataset, output, tools=squares, workers=2, restart=False, progress=lambda done: None, **options):
    options = PrepareOptions(size=SIZE, image_format="png", **options)
    runner = Threads(workers)
    return prepare(dataset, output, tools, options, runner=runner, restart=restart, progress=progress)


def make_photos(root: Path, count: int = 40, splits: bool = True) -> ImageDataset:
    """A folder of images with a square each, its size that of the number, and every tenth without one."""
    root.mkdir()
    rows = []
    for number in range(count):
        labelled = [(20 + number, 30, 30 + number, RED)] if number % 10 != 9 else []
        cv2.imwrite(str(root / f"{number}.png"), scene(labelled, (160, 120))[..., ::-1])
        split = ("train", "train", "val", "test")[number // 2 % 4] if splits else ""
        soft = [0.1 if at != number % 7 else 0.4 for at in range(7)]
        rows.append([f"{number}.png", EXPRESSIONS_7[number % 7], split, f"p{number // 2}", *soft])
    with (root / "labels.csv").open("w", newline="") as stream:
        soft_names = [f"soft_{name}" for name in EXPRESSIONS_7]
        csv.writer(stream).writerows([["path", "label", "split", "subject", *soft_names], *rows])
    return open_dataset(root)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "prepare.json"
    }


def described(dataset: ImageDataset, indices=None):
    """Label, group, split and soft label of every sample, by name."""
    chosen = range(len(dataset)) if indices is None else indices
    samples = [dataset.samples[int(index)] for index in chosen]
    return [(dataset.labels[s.label], s.group, s.split, np.float32(s.soft).tolist()) for s in samples]


class Ended(EdgefelError):
    """Stands in for whatever ends a run."""


def interrupt(dataset, output, after, workers=2, **options):
    """A run that ends when `after` more images have been searched."""
    searched = itertools.count(1)

    class Ending(SquareDetector):
        def __call__(self, image):
            if next(searched) > after:
                raise Ended
            return super().__call__(image)

    with pytest.raises(Ended):
        run(dataset, output, lambda: RuntimeFaces(Ending(), SIZE), workers, **options)
    assert not output.exists()


def journal(output: Path) -> Path:
    return partial_folder(output) / "journal"
