"""What is written is the same data set, from what layouts and in which."""

from __future__ import annotations

import csv
import json

import cv2
from data.preparing.photos import (
    FACES,
    SIZE,
    described,
    run,
)
from streams import BLUE, RED, scene

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.labels import EXPRESSIONS_8
from edgefel.data.open import open_dataset
from edgefel.data.readers.shard_writer import write_shards
from edgefel.files.resumable import partial_folder


def test_what_is_written_is_the_same_data_set(photos, tmp_path):
    report = run(photos, tmp_path / "out")
    prepared = open_dataset(tmp_path / "out")
    assert prepared.labels == photos.labels
    assert described(prepared) == described(photos, FACES)
    assert report["faces"] == 36
    assert report["no_face"] == ["9.png", "19.png", "29.png", "39.png"]
    assert report == json.loads((tmp_path / "out/prepare.json").read_text())
    for sample in prepared.samples:
        assert (sample.load() == RED).all()
        relative = sample.path.relative_to(tmp_path / "out")
        assert relative.parts[:2] == (sample.split, prepared.labels[sample.label])
    with (tmp_path / "out/labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["source"] for row in rows] == [f"{number}.png" for number in FACES]
    assert {row["face"] for row in rows} == {"detected"}
    assert not partial_folder(tmp_path / "out").exists()
    # as a manifest, which holds a million rows as columns, it is the same
    assert described(open_dataset(tmp_path / "out/labels.csv")) == described(photos, FACES)


def test_shards_are_the_same_data_set(photos, tmp_path):
    report = run(photos, tmp_path / "out", per_shard=10)
    prepared = open_dataset(tmp_path / "out", layout="webdataset")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt",
        "prepare.json",
        *(f"{name}.tar" for name in ("test-000000", "train-000000", "train-000001", "val-000000")),
    ]
    assert sorted(described(prepared)) == sorted(described(photos, FACES))
    assert all((sample.load() == RED).all() for sample in prepared.samples)
    assert report["per_split"] == {"train": 18, "val": 9, "test": 9}
    assert not partial_folder(tmp_path / "out").exists()


def test_boxes_and_archives(tmp_path):
    """Two faces of one image, told apart by their boxes alone, out of shards."""
    file = tmp_path / "two.png"
    cv2.imwrite(str(file), scene([(20, 20, 40, RED), (150, 100, 60, BLUE)])[..., ::-1])
    samples = (
        Sample(file, 1, "two", "train", None, (18, 18, 44, 44)),
        Sample(file, 2, "two", "train", None, (140, 95, 70, 70)),
        Sample(file, 3, "two", "val", None, (90, 20, 20, 20)),
    )
    write_shards(ImageDataset(tmp_path, EXPRESSIONS_8, samples), tmp_path / "shards")
    dataset = open_dataset(tmp_path / "shards")
    report = run(dataset, tmp_path / "out")
    prepared = open_dataset(tmp_path / "out")
    colours = [tuple(sample.load()[SIZE // 2, SIZE // 2].tolist()) for sample in prepared.samples]
    assert colours == [RED, BLUE, (0, 0, 0)]
    assert report["found"] == {"detected": 2, "box": 1, "center": 0, "whole": 0}
    assert report["groups"] == 1
    # eight labels, although no face shows contempt
    assert prepared.labels == EXPRESSIONS_8
    with (tmp_path / "out/labels.csv").open() as stream:
        assert [row["source"] for row in csv.DictReader(stream)] == [
            "train-000000.tar/000000000.png",
            "train-000000.tar/000000001.png",
            "val-000000.tar/000000000.png",
        ]
