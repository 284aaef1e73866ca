"""Writes a synthetic face set as an image folder that `edgefel.data.readers.folder` reads."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import as_completed
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from edgefel import __version__
from edgefel.data.dataset import SPLITS
from edgefel.data.images import write_image
from edgefel.data.inspection.contact_sheet import dataset_sheet
from edgefel.data.open import open_dataset
from edgefel.data.readers.folder import CSV_NAME
from edgefel.data.synthetic.expressions import UNITS
from edgefel.data.synthetic.faces import FacePlan, SyntheticFaces
from edgefel.data.synthetic.options import FaceOptions
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder, write_json
from edgefel.workers import worker_pool

_CHUNK = 32
# thirds of the range, for comparing people
_TONES = ("light", "medium", "dark")
# PNG at its fastest: faces compress little, and drawing should be the slow part
_ENCODING = {"png": (cv2.IMWRITE_PNG_COMPRESSION, 1), "jpg": (cv2.IMWRITE_JPEG_QUALITY, 95)}


def write_faces(
    folder: str | os.PathLike[str],
    options: FaceOptions,
    *,
    image_format: str = "png",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Renders the set into `folder`: images/, labels.csv, dataset.json, contact_sheet.png.

    The folder appears when it is complete; the number of `workers` does not change it. `progress` is called with
    the number of images that are newly done. Returns the content of dataset.json.

    Raises EdgefelError if the folder exists and is not empty, or the arguments make no sense.
    """
    if image_format not in _ENCODING:
        raise EdgefelError(f"image format {image_format!r}: choose one of {', '.join(_ENCODING)}")
    if workers < 1:
        raise EdgefelError(f"{workers} workers: give at least 1")
    faces = SyntheticFaces(options)
    with atomic_folder(folder) as temporary:
        (temporary / "images").mkdir()
        # closed before the folder is removed: workers write into it
        with closing(_draw_all(temporary, options, image_format, workers)) as drawn:
            for done in drawn:
                if progress is not None:
                    progress(done)
        plans = [faces.plan(index) for index in range(len(faces))]
        _write_csv(temporary / CSV_NAME, faces, plans, image_format)
        description = _describe(faces, plans, image_format)
        write_json(temporary / "dataset.json", description)
        sheet = dataset_sheet(open_dataset(temporary))
        write_image(temporary / "contact_sheet.png", sheet)
    return description


def _describe(faces: SyntheticFaces, plans: list[FacePlan], image_format: str) -> dict[str, Any]:
    """The content of dataset.json: options, labels and counts."""
    classes = Counter(faces.labels[plan.label] for plan in plans)
    splits = Counter(plan.split for plan in plans)
    return {
        "format": "edgefel-synthetic-faces",
        "version": 1,
        "edgefel": __version__,
        "labels": list(faces.labels),
        "options": dataclasses.asdict(faces.options),
        "image_format": image_format,
        "images": len(plans),
        "subjects": len({plan.subject for plan in plans}),
        "per_class": {name: classes[name] for name in faces.labels},
        "per_split": {name: splits[name] for name in SPLITS},
        "relabelled": sum(plan.label != plan.true_label for plan in plans),
    }


def _draw_all(
    folder: Path, options: FaceOptions, image_format: str, workers: int
) -> Generator[int, None, None]:
    chunks = [range(start, min(start + _CHUNK, options.count)) for start in range(0, options.count, _CHUNK)]
    draw = partial(_draw_chunk, folder, options, image_format)
    if workers == 1:
        yield from map(draw, chunks)
        return
    with worker_pool(min(workers, len(chunks)), cv2.setNumThreads, 1) as pool:
        for future in as_completed([pool.submit(draw, chunk) for chunk in chunks]):
            yield future.result()


def _draw_chunk(folder: Path, options: FaceOptions, image_format: str, indices: range) -> int:
    faces = SyntheticFaces(options)
    for index in indices:
        path = folder / _image_path(index, image_format)
        write_image(path, faces.sample(index).image, _ENCODING[image_format])
    return len(indices)


def _image_path(index: int, image_format: str) -> str:
    return f"images/{index:06d}.{image_format}"


def _write_csv(path: Path, faces: SyntheticFaces, plans: list[FacePlan], image_format: str) -> None:
    labels = faces.labels
    header = ["path", "label", "split", "subject", "true_label", "skin_tone", "glasses"]
    header += [f"soft_{name}" for name in labels] + [f"au_{unit}" for unit in UNITS]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for plan in plans:
            units, who = plan.action_units, faces.identity(plan.subject)
            writer.writerow(
                [
                    _image_path(plan.index, image_format),
                    labels[plan.label],
                    plan.split,
                    f"s{plan.subject:04d}",
                    labels[plan.true_label],
                    _TONES[min(int(who.tone * len(_TONES)), len(_TONES) - 1)],
                    "no" if who.glasses == "none" else "yes",
                    *(f"{share:.5f}" for share in plan.soft),
                    *(f"{units.get(unit, 0.0):.4f}" for unit in UNITS),
                ]
            )
