"""What is planted in a data set is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.images import read_rgb
from edgefel.data.inspection.inspect import InspectionOptions, inspect_dataset
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import open_dataset
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.errors import EdgefelError
from edgefel.tasks.threads import Threads

COUNT = 120


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_faces(folder, FaceOptions(count=COUNT, size=96, subjects=30, seed=4))
    return folder


@pytest.fixture
def faces(rendered, tmp_path) -> Path:
    """A copy to spoil."""
    shutil.copytree(rendered, tmp_path / "faces")
    return tmp_path / "faces"


def rows(folder):
    head, *lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    return head.split(","), [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


def add(folder, image, name, **values):
    """One more image, as JPEG; `values` are those of its line that differ from the first."""
    names, lines = rows(folder)
    cv2.imwrite(str(folder / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
    line = {**lines[0], **values, "path": name}
    with (folder / "labels.csv").open("a", encoding="utf-8") as stream:
        stream.write(",".join(line[column] for column in names) + "\n")


def of_split(folder, split):
    _, lines = rows(folder)
    return next(line for line in lines if line["split"] == split)


def test_a_sound_data_set_has_no_problem(rendered):
    found = inspect_dataset(open_dataset(rendered))
    assert found.problems == ()
    assert found.counts.sum() == COUNT
    assert found.classes == EXPRESSIONS_7
    assert found.splits == ("train", "val", "test")
    assert (found.groups.number, found.groups.across_splits) == (30, 0)
    assert found.soft_labels
    assert found.sizes is not None
    assert found.sizes.shorter == (96, 96.0, 96)
    assert found.sizes.small == COUNT
    assert found.near.pairs == found.copies.sets == found.flat == 0


def test_a_leak_that_was_encoded_again_is_found(faces):
    line = of_split(faces, "train")
    image = cv2.convertScaleAbs(read_rgb(faces / line["path"]), alpha=0.85)
    add(faces, image, "leak.jpg", split="test", label=line["label"], subject="somebody")
    found = inspect_dataset(open_dataset(faces))
    assert found.problems == ("1 pair of images that look alike across splits",)
    (pair,) = found.near.listed
    assert {found.describe(index)["path"] for index in pair.indices} == {
        str(faces / line["path"]),
        str(faces / "leak.jpg"),
    }
    assert pair.across_splits
    assert not pair.contradicting


def test_a_copy_under_another_label_contradicts(faces):
    line = of_split(faces, "train")
    other = next(name for name in EXPRESSIONS_7 if name != line["label"])
    shutil.copy(faces / line["path"], faces / "copy.png")
    names, _ = rows(faces)
    changed = {**line, "path": "copy.png", "label": other}
    with (faces / "labels.csv").open("a", encoding="utf-8") as stream:
        stream.write(",".join(changed[column] for column in names) + "\n")
    found = inspect_dataset(open_dataset(faces))
    assert found.problems == ("1 image with equal files under different labels",)
    (copies,) = found.copies.listed
    assert (copies.count, copies.across_splits, copies.contradicting) == (2, False, True)
    # equal files are told of once, not as pairs that look alike too
    assert found.near.pairs == 0


def test_frames_of_one_video_are_counted_and_not_listed(faces):
    line = of_split(faces, "train")
    image = read_rgb(faces / line["path"])
    for number in range(3):
        values = {name: line[name] for name in ("split", "label", "subject")}
        add(faces, cv2.convertScaleAbs(image, alpha=0.9 + 0.02 * number), f"{number}.jpg", **values)
    found = inspect_dataset(open_dataset(faces))
    assert found.problems == ()
    assert found.near.pairs == 0
    assert found.near.within_group >= 3


def test_somebody_in_two_splits_is_a_leak(faces):
    line = of_split(faces, "train")
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    add(faces, noise, "noise.jpg", split="test", label=line["label"], subject=line["subject"])
    found = inspect_dataset(open_dataset(faces))
    assert found.problems == ("1 group in more than one split",)
    ((name, counts),) = found.groups.listed
    assert name == line["subject"]
    assert counts["test"] == 1
    assert counts["train"] >= 1


def test_what_cannot_be_read_is_named_with_the_reason(faces):
    names = [line["path"] for line in rows(faces)[1]]
    (faces / names[3]).write_bytes(b"no image")
    (faces / names[5]).unlink()
    whole = (faces / names[7]).read_bytes()
    (faces / names[7]).write_bytes(whole[: len(whole) * 2 // 3])
    found = inspect_dataset(open_dataset(faces), runner=Threads(2))
    assert sorted(found.unreadable) == [3, 5, 7]
    assert "not an image" in found.unreadable[3]
    assert "No such file" in found.unreadable[5]
    assert found.problems == ("3 unreadable files",)
    assert found.to_dict()["unreadable"]["listed"][0]["path"] == str(faces / names[3])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_unreadable(tmp_path, suffix, share):
    face = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    data = cv2.imencode(suffix, face)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    sample = Sample(path, 0, "a", "train")
    path.write_bytes(data)
    assert inspect_dataset(ImageDataset(tmp_path, EXPRESSIONS_7, (sample,))).unreadable == {}
    path.write_bytes(data[: int(len(data) * share)])
    assert list(inspect_dataset(ImageDataset(tmp_path, EXPRESSIONS_7, (sample,))).unreadable) == [0]


def test_flat_images_are_counted_and_never_alike(tmp_path):
    samples = []
    for number, split in enumerate(("train", "test")):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), 40 + number, np.uint8))
        samples.append(Sample(path, 0, str(number), split))
    found = inspect_dataset(ImageDataset(tmp_path, EXPRESSIONS_7, tuple(samples)))
    assert (found.flat, found.grey, found.near.pairs) == (2, 2, 0)


def test_the_report_is_json_and_lists_no_more_than_asked(faces):
    for name in [line["path"] for line in rows(faces)[1]][:5]:
        (faces / name).write_bytes(b"")
    found = inspect_dataset(open_dataset(faces), InspectionOptions(limit=2))
    report = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert report["format"] == "edgefel-data-inspection"
    assert report["unreadable"]["number"] == 5
    assert len(report["unreadable"]["listed"]) == 2
    assert sum(report["per_class"].values()) == report["images"] == COUNT
    assert sum(one["images"] for one in report["sizes"]["histogram"]) == COUNT - 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 11}, "distance 11: give 0 to 10 of 64 bits"),
        ({"limit": -1}, "limit -1: give the number of findings"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(EdgefelError, match=message):
        InspectionOptions(**options)
