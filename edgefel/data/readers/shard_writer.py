"""Writes any data set as WebDataset shards."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgefel.data.dataset import SPLITS, ImageDataset, Sample
from edgefel.data.images import decode_rgb
from edgefel.data.readers.base import are_canonical
from edgefel.data.readers.webdataset import CLASSES_NAME
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder, json_text


def write_shards(
    dataset: ImageDataset, folder: str | os.PathLike[str], *, per_shard: int = 10_000, replace: bool = False
) -> list[Path]:
    """Writes `train-000000.tar` and so on, `shard-` for samples without a split, and `classes.txt`; gives the shards.

    JPEG, PNG and WebP images are copied, others become PNG. The same data set gives the same bytes. The folder
    appears when it is complete: an unreadable image leaves none. per_shard: images in a shard.
    Raises EdgefelError for labels that are not the canonical 7 or 8, a sample without one, soft labels or boxes of only
    some samples, and a folder that is not empty unless `replace` is set; UnreadableImageError for an image.
    """
    if per_shard < 1:
        raise EdgefelError(f"{per_shard} images per shard: give 1 or more")
    if not are_canonical(dataset.labels):
        raise EdgefelError(f"{dataset.root}: labels {', '.join(dataset.labels)} are not the canonical 7 or 8")
    if not len(dataset):
        raise EdgefelError(f"{dataset.root}: no images to write")
    written = []
    had: set[tuple[bool, bool]] = set()
    with atomic_folder(folder, replace=replace) as temporary:
        (temporary / CLASSES_NAME).write_text("\n".join(dataset.labels) + "\n", encoding="utf-8")
        for split in (*SPLITS, ""):
            chosen = dataset.in_split(split)
            for start in range(0, len(chosen), per_shard):
                name = f"{split or 'shard'}-{start // per_shard:06d}.tar"
                part = dataset.subset(chosen[start : start + per_shard])
                _write_shard(temporary / name, part, start, had)
                written.append(Path(folder) / name)
    return written


def _write_shard(path: Path, dataset: ImageDataset, start: int, had: set[tuple[bool, bool]]) -> None:
    """start: number of its first image. had: (soft labels, boxes) of the samples so far; mixtures are refused."""
    # USTAR: every reader of tar archives knows it, and all names here are short
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, sample in enumerate(dataset.samples, start=start):
            had.add((sample.soft is not None, sample.box is not None))
            if len(had) > 1:
                raise EdgefelError(
                    f"{sample.path}: samples with and without soft labels or boxes are mixed; write them apart"
                )
            data, kind = _encoded(sample)
            said = _said(sample, dataset)
            _add(archive, f"{number:09d}.{kind}", data)
            _add(archive, f"{number:09d}.json", json_text(said).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    # TarInfo's defaults, time 0 and no owner, make the bytes depend on the images alone
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _said(sample: Sample, dataset: ImageDataset) -> dict[str, Any]:
    if not 0 <= sample.label < len(dataset.labels):
        raise EdgefelError(f"{sample.path}: has no label; choose labelled samples")
    # also an empty split: otherwise the name of the folder would be taken for one
    label = dataset.labels[sample.label]
    said: dict[str, Any] = {"label": label, "group": sample.group, "split": sample.split}
    if sample.soft is not None:
        said["soft"] = dict(zip(dataset.labels, sample.soft, strict=True))
    if sample.box is not None:
        said["box"] = list(sample.box)
    return said


def _encoded(sample: Sample) -> tuple[bytes, str]:
    """The image's bytes and their format, by the first bytes, not by the file's suffix."""
    data = sample.read()
    if data.startswith(b"\xff\xd8\xff"):
        return data, "jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data, "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data, "webp"
    bgr = cv2.cvtColor(decode_rgb(data, sample.path), cv2.COLOR_RGB2BGR)
    return np.asarray(cv2.imencode(".png", bgr)[1]).tobytes(), "png"
