from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data.readers.trees_affectnet import write_affectnet, write_affectnet_npy
from data.readers.trees_raf_db import CLASS_NUMBERS, Face, write_raf_db, write_sorted_raf_db

from edgefel.data.dataset import ImageDataset
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.raf_db import RafDb
from edgefel.errors import EdgefelError

LIST = "EmoLabel/list_patition_label.txt"


def found(dataset: ImageDataset) -> set[Face]:
    return {
        Face(s.path.relative_to(dataset.root).as_posix(), dataset.labels[s.label], s.split, s.box)
        for s in dataset.samples
    }


def with_list(root: Path, text: str) -> Path:
    (root / "Image/aligned").mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    (root / LIST).write_text(text, encoding="utf-8")
    return root


def test_aligned_faces_with_every_class_by_name(tmp_path: Path) -> None:
    faces = write_raf_db(tmp_path)
    dataset = RafDb().read(tmp_path)
    assert dataset.labels == EXPRESSIONS_7
    assert {face.label for face in faces} == set(CLASS_NUMBERS) == set(EXPRESSIONS_7)
    assert found(dataset) == set(faces)
    assert len(dataset) == len(faces) == 21
    assert len(dataset.in_split("train")) == 14
    assert len({s.group for s in dataset.samples}) == 21  # subjects are not known
    assert dataset.load(0).shape == (32, 32, 3)


@pytest.mark.parametrize("boxes", [False, True])
def test_originals_are_cut_to_the_face_where_there_are_boxes(tmp_path: Path, boxes: bool) -> None:
    faces = write_raf_db(tmp_path, "original", boxes=boxes)
    dataset = RafDb().read(tmp_path)
    assert found(dataset) == set(faces)
    face = next(face for face in faces if face.path.endswith("train_00004.jpg"))
    sample = next(s for s in dataset.samples if s.path.name == "train_00004.jpg")
    if boxes:
        # floor and ceil of the corners 3.25, 2, 28.5, 31
        assert sample.box == face.box == (3, 2, 26, 29)
        assert sample.load().shape == (29, 26, 3)
    else:
        assert sample.load().shape == (32, 32, 3)


def test_aligned_faces_come_before_originals_and_need_no_boxes(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "other", "original", boxes=True)
    aligned = write_raf_db(tmp_path / "set")
    shutil.copytree(tmp_path / "other/Image/original", tmp_path / "set/Image/original")
    shutil.copytree(tmp_path / "other/Annotation", tmp_path / "set/Annotation")
    assert found(RafDb().read(tmp_path / "set")) == set(aligned)


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param([("", "basic")], id="one level deeper"),
        pytest.param(
            [("Image/aligned", "Image/aligned/aligned")], id="an archive in a folder of its own name"
        ),
        pytest.param([(LIST, "list_patition_label.txt"), ("Image/aligned", "aligned")], id="side by side"),
        pytest.param([("EmoLabel", "emolabel"), ("Image", "IMAGE")], id="upper and lower case"),
    ],
)
def test_what_people_really_have(tmp_path: Path, moves: list[tuple[str, str]]) -> None:
    faces = write_raf_db(tmp_path / "set")
    for source, target in moves:
        aside = tmp_path / "aside"
        (tmp_path / "set" / source).rename(aside)
        (tmp_path / "set" / target).parent.mkdir(parents=True, exist_ok=True)
        aside.rename(tmp_path / "set" / target)
    assert RafDb().recognizes(tmp_path / "set")
    dataset = RafDb().read(tmp_path / "set")
    assert {(s.path.name, s.label) for s in dataset.samples} == {
        (Path(face.path).name, EXPRESSIONS_7.index(face.label)) for face in faces
    }
    assert all(s.path.is_file() for s in dataset.samples)


def test_the_basic_subset_comes_before_the_compound_one(tmp_path: Path) -> None:
    faces = write_raf_db(tmp_path / "basic")
    with_list(tmp_path / "compound", "train_00001.jpg 11\n")
    assert len(RafDb().read(tmp_path)) == len(faces)


def test_byte_order_mark_crlf_and_blank_lines(tmp_path: Path) -> None:
    with_list(tmp_path, "\ufefftrain_00001.jpg 5\r\ntest_0001.jpg 1\r\n\r\n")
    assert found(RafDb().read(tmp_path)) == {
        Face("Image/aligned/train_00001_aligned.jpg", "sadness", "train"),
        Face("Image/aligned/test_0001_aligned.jpg", "surprise", "test"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_00001.jpg 5\ntrain_00002.jpg 8\n", r"label.txt line 2: class '8' is unknown.*compound"),
        ("train_00001.jpg 0\n", "line 1: class '0' is unknown"),
        ("train_00001.jpg\n", "line 1: 'train_00001.jpg' is not an image and its class"),
        ("train_00001.jpg 5 5\n", "line 1: 'train_00001.jpg 5 5' is not an image and its class"),
        ("\nface.jpg 5\n", "line 2: 'face.jpg 5' is not an image and its class"),
        ("\n\n", "lists no images"),
    ],
)
def test_broken_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EdgefelError, match=message) as caught:
        RafDb().read(with_list(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["1 2 3", "1 2 3 4 5", "5 2 3 9", "1 2 3 2", "a b c d", "nan 2 3 4", "0 0 inf 9", "0 0 1e9 9"]
)
def test_broken_boxes_are_refused(tmp_path: Path, text: str) -> None:
    write_raf_db(tmp_path, "original", boxes=True)
    (tmp_path / "Annotation/boundingbox/train_00003_boundingbox.txt").write_text(text)
    with pytest.raises(EdgefelError, match="train_00003_boundingbox.txt: is not a box 'x1 y1 x2 y2'"):
        RafDb().read(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match="no EmoLabel/list_patition_label.txt and no DATASET/train/1"):
        RafDb().read(tmp_path)
    write_raf_db(tmp_path, "original", boxes=True)
    (tmp_path / "Annotation/boundingbox/test_0020_boundingbox.txt").unlink()
    with pytest.raises(EdgefelError, match="test_0020_boundingbox.txt: no such file.* read whole images"):
        RafDb().read(tmp_path)
    shutil.rmtree(tmp_path / "Image")
    with pytest.raises(EdgefelError, match="no folder Image/aligned or Image/original"):
        RafDb().read(tmp_path)


@pytest.mark.parametrize("root", ["", "DATASET"])
def test_sorted_by_class_number(tmp_path: Path, root: str) -> None:
    faces = write_sorted_raf_db(tmp_path)
    (tmp_path / "DATASET/train/1/Thumbs.db").write_bytes(b"")
    (tmp_path / "DATASET/train/.cache").mkdir()
    assert RafDb().recognizes(tmp_path / root)
    dataset = RafDb().read(tmp_path / root)
    assert {(s.path, dataset.labels[s.label], s.split) for s in dataset.samples} == {
        (tmp_path / face.path, face.label, face.split) for face in faces
    }
    assert len({s.group for s in dataset.samples}) == 21


def test_what_does_not_belong_in_sorted_folders_is_refused(tmp_path: Path) -> None:
    write_sorted_raf_db(tmp_path)
    stray = tmp_path / "DATASET/test/2/selfie.png"
    stray.write_bytes(b"")
    with pytest.raises(EdgefelError, match=r"2/selfie.png: is not named as an image of RAF-DB"):
        RafDb().read(tmp_path)
    stray.unlink()
    (tmp_path / "DATASET/train/8").mkdir()
    with pytest.raises(EdgefelError, match="train: class '8' is unknown"):
        RafDb().read(tmp_path)


def test_other_sets_are_not_recognized(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "lists")
    write_affectnet_npy(tmp_path / "npy")
    (tmp_path / "folders/train/1").mkdir(parents=True)
    (tmp_path / "folders/train/1/a.jpg").write_bytes(b"")
    (tmp_path / "file.txt").write_text("")
    for name in ("lists", "npy", "folders", "file.txt", "nowhere"):
        assert not RafDb().recognizes(tmp_path / name)
