"""Writes the files beside prepared faces: labels.csv, dataset.json and prepare.json, or WebDataset shards."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edgefel import __version__
from edgefel.data.dataset import SPLIT_NAMES, FileStore, ImageDataset, SampleTable
from edgefel.data.preparing.faces import FOUND
from edgefel.data.preparing.journal import MISSING, UNREADABLE, Done
from edgefel.data.preparing.plan import PreparePlan
from edgefel.data.readers.base import PackedNames
from edgefel.data.readers.folder import CSV_COLUMNS, CSV_NAME
from edgefel.data.readers.shard_writer import write_shards
from edgefel.files.write import atomic_file, write_json

REPORT_NAME = "prepare.json"


def write_files(folder: Path, plan: PreparePlan, done: Done) -> dict[str, Any]:
    """Adds labels.csv, dataset.json and prepare.json to the faces in `folder`; returns the contents of prepare.json."""
    with atomic_file(folder / CSV_NAME) as temporary:
        _write_csv(temporary, plan, done)
    report = describe(plan, done)
    write_json(folder / "dataset.json", _description(plan, report))
    write_json(folder / REPORT_NAME, report)
    return report


def write_as_shards(folder: Path, faces: Path, plan: PreparePlan, done: Done) -> dict[str, Any]:
    """Packs the faces in the folder `faces` into shards in `folder`, with prepare.json; returns its contents."""
    assert plan.options.per_shard is not None
    written = done.written
    table = SampleTable(
        FileStore(faces, PackedNames.pack(plan.name(index) for index in written.tolist())),
        plan.label[written],
        plan.group[written],
        plan.group_names,
        plan.split[written],
        soft=None if plan.soft is None else plan.soft[written],
    )
    # shards of an earlier run hold no other faces than these
    write_shards(
        ImageDataset(faces, plan.dataset.labels, table),
        folder,
        per_shard=plan.options.per_shard,
        replace=True,
    )
    report = describe(plan, done)
    write_json(folder / REPORT_NAME, report)
    return report


def describe(plan: PreparePlan, done: Done) -> dict[str, Any]:
    """The contents of prepare.json: options, counts, and what was left out and why. Plain JSON values."""
    written = done.written
    labels = plan.dataset.labels
    classes = np.bincount(plan.label[written], minlength=len(labels))
    splits = np.bincount(plan.split[written], minlength=len(SPLIT_NAMES))
    return {
        "format": "edgefel-prepared-faces",
        "version": 1,
        "data": str(plan.dataset.root),
        "votes": None if plan.dataset.votes is None else plan.dataset.votes.to_dict(),
        "options": plan.options.to_dict(),
        "images": len(plan),
        "faces": len(written),
        "found": {name: len(done.indices(letter)) for letter, name in FOUND.items()},
        "per_class": dict(zip(labels, classes.tolist(), strict=True)),
        # train, val and test, and then what is in none of them
        "per_split": {SPLIT_NAMES[code]: int(splits[code]) for code in (1, 2, 3, 0) if splits[code]},
        "groups": len(np.unique(plan.group[written])),
        "soft_labels": plan.soft is not None,
        "no_face": [_printable(plan.sources[index]) for index in done.indices(MISSING).tolist()],
        "unreadable": [
            {"path": _printable(plan.sources[index]), "reason": done.reasons[index]}
            for index in done.indices(UNREADABLE).tolist()
        ],
        "left_out": dict(plan.dataset.left_out),
    }


def _description(plan: PreparePlan, report: dict[str, Any]) -> dict[str, Any]:
    """The contents of dataset.json, from which the reader takes the labels: a class may have no images."""
    kept = ("format", "version", "faces", "per_class", "per_split", "groups")
    return {
        **{name: report[name] for name in kept},
        "edgefel": __version__,
        "labels": list(plan.dataset.labels),
    }


def _write_csv(path: Path, plan: PreparePlan, done: Done) -> None:
    labels = plan.dataset.labels
    soft_columns = [] if plan.soft is None else [f"soft_{name}" for name in labels]
    # file names need not be UTF-8, and readers require it
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*CSV_COLUMNS, *soft_columns, "face", "source"])
        for index in done.written.tolist():
            # the shortest decimals that are the same float32
            soft = [] if plan.soft is None else [str(share) for share in plan.soft[index]]
            writer.writerow(
                [
                    plan.name(index),
                    labels[plan.label[index]],
                    SPLIT_NAMES[plan.split[index]],
                    plan.group_names[int(plan.group[index])],
                    *soft,
                    FOUND[chr(done.state[index])],
                    plan.sources[index],
                ]
            )


def _printable(name: str) -> str:
    """As labels.csv has it."""
    return name.encode("utf-8", "backslashreplace").decode()
