"""Calibration sets of faces that are no files of their own: in boxes of images, and in archives."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from data.readers.trees_affectnet import write_affectnet
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_fer_plus import write_fer_plus
from data.readers.trees_webdataset import image, write_webdataset

from edgefel.calib.calibration_set import (
    choose_calibration_set,
    read_calibration_set,
    write_calibration_set,
)
from edgefel.calib.images import choose_images
from edgefel.cli.main import main
from edgefel.data.open import LAYOUTS, open_dataset
from edgefel.errors import EdgefelError


def expw(root):
    write_expw(root, faces_of_every_class(2))
    return root


def fer_plus(root):
    write_fer_plus(root)
    return root


def webdataset(root):
    return write_webdataset(root).root


def csv_file(root):
    """Of ExpW's faces, beside the folder of the images."""
    faces = open_dataset(expw(root / "expw"))
    (root / "lists").mkdir()
    with (root / "lists/faces.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "group", "x", "y", "width", "height"))
        for sample in faces.samples:
            path = Path("..") / sample.path.relative_to(root)
            writer.writerow((path, faces.labels[sample.label], sample.group, *sample.box))
    return root / "lists/faces.csv"


def parquet_file(root):
    """Of ExpW's faces, the images inside; without paths of their own."""
    pa = pytest.importorskip("pyarrow")
    faces = open_dataset(expw(root / "expw"))
    rows = [
        {
            "image": {"bytes": sample.read(), "path": None},
            "label": faces.labels[sample.label],
            "group": sample.group,
        }
        | dict(zip(("x", "y", "width", "height"), sample.box, strict=True))
        for sample in faces.samples
    ]
    importlib.import_module("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), root / "faces.parquet")
    return root / "faces.parquet"


TREES = {
    "expw": (expw, "boxes"),
    "fer-plus": (fer_plus, "archive"),
    "webdataset": (webdataset, "archive"),
    "csv": (csv_file, "boxes"),
    "parquet": (parquet_file, "boxes in an archive"),
}


@pytest.fixture(params=TREES)
def chosen_from(request, tmp_path):
    """A data set, and a calibration set of it that has been written and read."""
    write, kind = TREES[request.param]
    dataset = open_dataset(write(tmp_path / "set"))
    first = dataset.samples[0]
    assert (first.box is not None, first.store is not None) == ("boxes" in kind, "archive" in kind)
    write_calibration_set(tmp_path / "set.json", choose_calibration_set(dataset, 1, 9, 0))
    return dataset, read_calibration_set(tmp_path / "set.json")


def test_the_faces_come_back_to_the_pixel(chosen_from):
    dataset, chosen = chosen_from
    faces = {}
    for index, sample in enumerate(dataset.samples):
        faces.setdefault((dataset.labels[sample.label], sample.group), []).append(dataset.load(index))
    opened = chosen.open()
    assert len(opened) == len(chosen.images) >= len(set(chosen.counts) - set(chosen.short))
    for index, entry in enumerate(chosen.images):
        own = faces[entry.label, entry.group]
        assert any(np.array_equal(opened.load(index), face) for face in own)


def test_a_image_that_changed_or_went_is_named(chosen_from):
    _, chosen = chosen_from
    edited = (replace(chosen.images[0], sha256="0" * 64), *chosen.images[1:])
    with pytest.raises(EdgefelError, match="has changed since it was chosen"):
        replace(chosen, images=edited).open()
    gone = (replace(chosen.images[0], path=chosen.images[0].path + "x"), *chosen.images[1:])
    with pytest.raises(EdgefelError, match="no such file, but the calibration set lists it"):
        replace(chosen, images=gone).open()


def test_a_member_that_was_replaced_in_its_archive_is_named(tmp_path):
    dataset = open_dataset(webdataset(tmp_path / "set"))
    chosen = choose_calibration_set(dataset, 1, 9, 0)
    for shard in (tmp_path / "set").glob("*.tar"):
        data = shard.read_bytes()
        # as many bytes, so that everything else in the archive stays where it was
        shard.write_bytes(data.replace(image(0), image(0)[:-1] + b"x"))
    with pytest.raises(EdgefelError, match=r"\.tar/.* has changed since it was chosen"):
        chosen.open()


def test_boxes_decide_the_key_and_sets_without_them_keep_theirs(tmp_path):
    chosen = choose_calibration_set(open_dataset(expw(tmp_path / "set")), 1, 9, 0)
    moved = (replace(chosen.images[0], box=(0, 0, 5, 5)), *chosen.images[1:])
    assert replace(chosen, images=moved).key() != chosen.key()
    assert replace(chosen, layout="expw").key() == chosen.key()
    plain = replace(chosen, images=tuple(replace(image, box=None) for image in chosen.images))
    # as a set was written before there were boxes and layouts
    assert set(plain.to_dict()["images"][0]) == {"path", "label", "group", "sha256"}
    assert "layout" not in plain.to_dict()
    write_calibration_set(tmp_path / "set.json", chosen)
    document = json.loads((tmp_path / "set.json").read_text())
    document["images"][0]["box"] = [1, 2, 3]
    (tmp_path / "set.json").write_text(json.dumps(document))
    with pytest.raises(EdgefelError, match="an entry is missing or unknown"):
        read_calibration_set(tmp_path / "set.json")


@pytest.mark.parametrize("name", ["expw", "webdataset"])
def test_what_calibrates_is_not_compared_on(tmp_path, name):
    write, _ = TREES[name]
    dataset = open_dataset(write(tmp_path / "set"))
    write_calibration_set(tmp_path / "set.json", choose_calibration_set(dataset, 1, 9, 0))
    images = choose_images(
        None,
        dataset.labels,
        calibrate=True,
        per_class=1,
        group_cap=9,
        seed=0,
        calibration_set=tmp_path / "set.json",
    )
    calibrating = {images.dataset.samples[i].path.resolve() for i in images.calibration.indices}
    compared = {images.held_out_dataset.samples[i].path.resolve() for i in images.held_out}
    assert compared
    assert not calibrating & compared


def calibrate(data, *arguments: object):
    return CliRunner().invoke(main, ["calibrate", "--data", *map(str, (data, *arguments))])


def test_a_layout_that_is_named_is_taken_and_noted(tmp_path):
    write_affectnet(tmp_path / "set")
    out = tmp_path / "set.json"
    done = calibrate(tmp_path / "set", "-o", out, "--layout", "affectnet-7", "--per-class", 1)
    assert done.exit_code == 0, done.output
    chosen = read_calibration_set(out)
    assert "contempt" not in chosen.labels
    assert chosen.layout == "affectnet-7"
    assert all(image.box is not None for image in chosen.images)
    # without data of its own a comparison opens what the set was chosen from as the same layout
    options = {"per_class": 1, "group_cap": 9, "seed": 0}
    images = choose_images(None, chosen.labels, calibrate=True, calibration_set=out, **options)
    assert images.held_out_dataset.labels == chosen.labels
    given = choose_images(
        tmp_path / "set",
        chosen.labels,
        calibrate=True,
        calibration_set=out,
        layout="affectnet-7",
        **options,
    )
    assert given.held_out_dataset.labels == chosen.labels
    # read by its folders' names the same set has contempt, which is then left out
    eight = choose_images(tmp_path / "set", chosen.labels, calibrate=False, **options)
    assert eight.held_out_dataset.labels == chosen.labels
    assert "contempt" in eight.classes["images_left_out"]


def test_an_unknown_layout_is_one_line_also_where_nothing_is_labelled(tmp_path):
    (tmp_path / "photos").mkdir()
    for extra in ((), ("--compare", "--checkpoint", tmp_path)):
        out = tmp_path / "out"
        done = calibrate(tmp_path / "photos", "-o", out, "--layout", "imagenet", *extra)
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert line.endswith(f"choose one of: {', '.join(LAYOUTS)}")
        assert not out.exists()
