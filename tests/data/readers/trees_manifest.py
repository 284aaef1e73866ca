"""Manifests in CSV and Parquet, with tiny images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.manifest import ManifestReader

ROWS: list[dict[str, Any]] = [
    {
        "path": f"faces/{number}.png",
        # synonyms and cases, in another order than the canonical one
        "label": name,
        "split": ("train", "val", "test", "")[number % 4],
        "subject": f"s{number // 2}" if number != 3 else "",
        "x": 1,
        "y": 2,
        "width": 4,
        "height": 5,
        "note": "ignored, with a comma",
    }
    for number, name in enumerate(("Angry", "disgust", "fear", "joy", "sad", "SURPRISE", "neutral"))
]
LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


class WrittenManifest(NamedTuple):
    """label, split, group of each row, in order."""

    path: Path
    rows: list[tuple[str, str, str]]


def manifest_rows(folder: Path, soft: bool = False) -> list[dict[str, Any]]:
    """The rows, their images written below `folder`; the last one has an absolute path."""
    rows = [dict(row) for row in ROWS]
    rows[-1]["path"] = str(folder / ROWS[-1]["path"])
    for number, row in enumerate(rows):
        file = folder / row["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((9, 8, 3), 30 * number, np.uint8))
        if soft:
            row |= {f"soft_{label}": 0.75 if label == LABELS[number] else 0.25 / 6 for label in EXPRESSIONS_7}
    return rows


def truth(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What a reader has to find."""
    return [
        (label, row["split"], row["subject"] or row["path"]) for row, label in zip(rows, LABELS, strict=True)
    ]


def write_csv_manifest(folder: Path, soft: bool = False) -> WrittenManifest:
    """With a byte order mark, CRLF and a blank last line, as spreadsheets write it."""
    rows = manifest_rows(folder, soft)
    path = folder / "faces.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        stream.write("\r\n")
    return WrittenManifest(path, truth(rows))


def write_parquet_manifest(folder: Path, soft: bool = False) -> WrittenManifest:
    """Needs pyarrow. Three rows in a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = manifest_rows(folder, soft)
    path = folder / "faces.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return WrittenManifest(path, truth(rows))


def check_manifest(written: WrittenManifest, soft: bool) -> None:
    dataset = ManifestReader().read(written.path)
    assert dataset.labels == EXPRESSIONS_7
    assert [(dataset.labels[s.label], s.split, s.group) for s in dataset.samples] == written.rows
    for index, sample in enumerate(dataset.samples):
        assert dataset.load(index).shape == (5, 4, 3)
        assert dataset.load(index)[0, 0, 0] == 30 * index
        assert sample.box == (1, 2, 4, 5)
        if soft:
            assert sample.soft is not None
            assert np.argmax(sample.soft) == sample.label
    assert (dataset.soft_targets() is not None) == soft
