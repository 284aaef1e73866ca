from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.readers.trees_affectnet import HEADER, Face, write_affectnet, write_affectnet_npy
from data.readers.trees_raf_db import write_raf_db, write_sorted_raf_db

from edgefel.data.dataset import ImageDataset
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.readers.affectnet import AffectNet
from edgefel.errors import EdgefelError

LISTS = "Manually_Annotated_file_lists"
ROW = "1/a.jpg,1,2,9,9,0;0,{},0,0\n"


def found(dataset: ImageDataset) -> set[Face]:
    return {
        Face(s.path.relative_to(dataset.root).as_posix(), dataset.labels[s.label], s.split, s.box)
        for s in dataset.samples
    }


def with_lists(root: Path, training: str, validation: str = ROW.format(0)) -> Path:
    (root / "1").mkdir(parents=True)
    for name, text in (("training", training), ("validation", validation)):
        (root / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    return root


def with_annotation(root: Path, value: Any) -> Path:
    write_affectnet_npy(root, indices=(0, 3))
    np.save(root / "train_set/annotations/3_exp.npy", value)
    return root


@pytest.mark.parametrize("write", [write_affectnet, write_affectnet_npy])
def test_every_class_by_name(tmp_path: Path, write: Any) -> None:
    faces = write(tmp_path)
    reader = AffectNet()
    assert reader.name == "affectnet"
    assert reader.recognizes(tmp_path)
    dataset = reader.read(tmp_path)
    assert dataset.labels == EXPRESSIONS_8
    assert {face.label for face in faces} == set(EXPRESSIONS_8)
    assert found(dataset) == set(faces)
    assert len(dataset) == len(faces)
    assert len({s.group for s in dataset.samples}) == len(faces)
    assert {s.split for s in dataset.samples} == {"train", "val"}
    assert all(s.path.is_file() for s in dataset.samples)


@pytest.mark.parametrize("write", [write_affectnet, write_affectnet_npy])
def test_seven_classes_leave_contempt_out(tmp_path: Path, write: Any) -> None:
    faces = write(tmp_path)
    reader = AffectNet(7)
    assert reader.name == "affectnet-7"
    assert reader.classes == EXPRESSIONS_7
    assert reader.recognizes(tmp_path)
    dataset = reader.read(tmp_path)
    assert dataset.labels == EXPRESSIONS_7
    assert found(dataset) == {face for face in faces if face.label != "contempt"}
    with pytest.raises(EdgefelError, match="6 expression classes"):
        AffectNet(6)


def test_faces_are_cut_by_their_boxes(tmp_path: Path) -> None:
    write_affectnet(tmp_path, side=40)
    dataset = AffectNet().read(tmp_path)
    sample = next(s for s in dataset.samples if s.path.name == "train03abcdef.jpg")
    assert sample.box == (3, 1, 28, 36)
    assert sample.load().shape == (36, 28, 3)
    assert sample.group == "1/train03abcdef.jpg"


@pytest.mark.parametrize("box", ["-1,-1,-1,-1", "NULL,NULL,NULL,NULL", ",,,", "4,4,0,9"])
def test_a_image_without_a_box_is_read_whole(tmp_path: Path, box: str) -> None:
    write_affectnet(tmp_path)
    with (tmp_path / LISTS / "training.csv").open("a") as stream:
        stream.write(f"1/train00abcdef.jpg,{box},0;0,3,0,0\n\n")
    dataset = AffectNet().read(tmp_path)
    assert [s.load().shape for s in dataset.samples if s.label == 3] == [
        (28, 20, 3),
        (32, 32, 3),
        (28, 20, 3),
    ]


def test_lists_without_columns_for_boxes(tmp_path: Path) -> None:
    text = "subDirectory_filePath,expression\n1/a.jpg,6\n"
    dataset = AffectNet().read(with_lists(tmp_path, text, text))
    assert found(dataset) == {Face("1/a.jpg", "anger", "train"), Face("1/a.jpg", "anger", "val")}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("", "AffectNet", id="one level deeper"),
        pytest.param(
            "Manually_Annotated_Images", "Manually_Annotated_compressed/Manually_Annotated_Images", id="rar"
        ),
        pytest.param(
            "Manually_Annotated_Images", "Manually_Annotated_Images/Manually_Annotated_Images", id="twice"
        ),
        pytest.param(LISTS, LISTS.lower(), id="lower case"),
        pytest.param(f"{LISTS}/training.csv", f"{LISTS}/Training.CSV", id="upper case"),
    ],
)
def test_lists_where_people_have_them(tmp_path: Path, source: str, target: str) -> None:
    faces = write_affectnet(tmp_path / "set")
    (tmp_path / "set" / source).rename(tmp_path / "aside")
    (tmp_path / "set" / target).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "aside").rename(tmp_path / "set" / target)
    assert AffectNet().recognizes(tmp_path / "set")
    dataset = AffectNet().read(tmp_path / "set")
    assert {s.path.name for s in dataset.samples} == {Path(face.path).name for face in faces}
    assert all(s.path.is_file() for s in dataset.samples)


def test_images_beside_the_lists(tmp_path: Path) -> None:
    faces = write_affectnet(tmp_path, images="")
    for name in ("training.csv", "validation.csv"):
        (tmp_path / LISTS / name).rename(tmp_path / name)
    assert found(AffectNet().read(tmp_path)) == set(faces)


def test_byte_order_mark_crlf_quotes_case_and_numbers_saved_as_floats(tmp_path: Path) -> None:
    rows = f'\ufeff{HEADER.upper()}\r\n"1\\a.jpg",1.0,2,9.4,9,"0;0",3.0,0,0\r\n\r\n'
    dataset = AffectNet().read(with_lists(tmp_path, rows, "\ufeff" + ROW.format(1).replace("\n", "\r\n")))
    assert found(dataset) == {
        Face("1/a.jpg", "surprise", "train", (1, 2, 9, 9)),
        Face("1/a.jpg", "happiness", "val", (1, 2, 9, 9)),
    }


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            f"{HEADER}\n{ROW.format(0)}{ROW.format(11)}",
            "training.csv line 3: expression '11' is unknown.*no face",
        ),
        (f"{HEADER}\n{ROW.format('')}", "training.csv line 2: expression '' is unknown"),
        (f"{HEADER}\n{ROW.format('2.5')}", "training.csv line 2: expression '2.5' is unknown"),
        (f"{HEADER}\n{ROW.format('happy')}", "training.csv line 2: expression 'happy' is unknown"),
        (f"{HEADER}\n1/a.jpg,1,2\n", "line 2: names no image, or has less than 7 columns"),
        (f"{HEADER}\n,1,2,9,9,0;0,3,0,0\n", "line 2: names no image"),
        (f"{HEADER}\n/a.jpg,1,2,9,9,0;0,3,0,0\n", "line 2: names no image"),
        (f"{HEADER}\n1/a.jpg,x,2,9,9,0;0,3,0,0\n", "line 2: the box 'x,2,9,9' is not x, y, width and height"),
        (f"{HEADER}\n1/a.jpg,nan,2,9,9,0;0,3,0,0\n", "line 2: the box 'nan,2,9,9' is not"),
        (f"{HEADER}\n1/a.jpg,1,2,9999999999,9,0;0,3,0,0\n", "line 2: the box '1,2,9999999999,9' is not"),
        (HEADER.replace("expression", "emotion"), "training.csv line 1: missing column expression"),
        (HEADER.replace("face_y", "y"), "training.csv line 1: missing column face_y"),
        ("", "training.csv line 1: neither names the columns nor is an image"),
        ("1/a.jpg,3\n", "training.csv line 1: neither names the columns nor is an image"),
    ],
)
def test_broken_lists_are_refused(tmp_path: Path, training: str, message: str) -> None:
    with pytest.raises(EdgefelError, match=message) as caught:
        AffectNet().read(with_lists(tmp_path, training))
    assert "\n" not in str(caught.value)


def test_rows_of_no_expression_may_be_broken_in_their_boxes(tmp_path: Path) -> None:
    row = "1/a.jpg,x,x,x,x,0;0,{},0,0\n"
    text = HEADER + "\n" + "".join(row.format(number) for number in (8, 9, 10))
    assert {s.split for s in AffectNet().read(with_lists(tmp_path, text)).samples} == {"val"}
    with pytest.raises(EdgefelError, match="no image of neutral, happiness"):
        AffectNet().read(with_lists(tmp_path / "none", text, text))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match="no Manually_Annotated_file_lists/training.csv"):
        AffectNet().read(tmp_path)
    write_affectnet(tmp_path)
    shutil.rmtree(tmp_path / "Manually_Annotated_Images")
    with pytest.raises(EdgefelError, match="no folder Manually_Annotated_Images that has 1/"):
        AffectNet().read(tmp_path)
    (tmp_path / LISTS / "validation.csv").unlink()
    with pytest.raises(EdgefelError, match="validation.csv: no such file; unpack both lists"):
        AffectNet().read(tmp_path)
    (tmp_path / LISTS / "validation.csv").write_bytes(b"\xfa\xfb")
    with pytest.raises(EdgefelError, match="validation.csv: cannot be read as a UTF-8 CSV file"):
        AffectNet().read(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        np.str_("3"),
        np.str_("3.0"),
        np.bytes_(b"3"),
        np.uint8(3),
        np.float64(3),
        np.array([3]),
        np.array([["3"]]),
        np.array(3, ">i4"),
        np.array("3", ">U2"),
    ],
)
def test_annotations_as_they_may_be_stored(tmp_path: Path, value: Any) -> None:
    dataset = AffectNet().read(with_annotation(tmp_path, value))
    sample = next(s for s in dataset.samples if s.path == tmp_path / "train_set/images/3.jpg")
    assert dataset.labels[sample.label] == "surprise"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.int64(11), "3_exp.npy: expression '11' is unknown"),
        (np.float64(2.5), "3_exp.npy: expression '2.5' is unknown"),
        (np.str_("happy"), "3_exp.npy: expression 'happy' is unknown"),
        (np.array([1, 2]), "3_exp.npy: is not a NumPy file with one number"),
        (np.zeros(9999), "3_exp.npy: is not a NumPy file with one number"),
        (np.array("3", object), "3_exp.npy: is not a NumPy file with one number"),
    ],
)
def test_broken_annotations_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        AffectNet().read(with_annotation(tmp_path, value))


HEAD = (
    b"\x93NUMPY\x01\x00\x40\x00"
    + b"{'descr': '<U1', 'fortran_order': False, 'shape': (), }".ljust(63)
    + b"\n"
)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"text", b"PK\x03\x04", HEAD, HEAD + b"3\0\0", HEAD + b"3\0\0\0\0"]
)
def test_annotations_that_are_no_numpy_file(tmp_path: Path, content: bytes) -> None:
    write_affectnet_npy(tmp_path, indices=(5,))
    (tmp_path / "val_set/annotations/5_exp.npy").write_bytes(content)
    with pytest.raises(EdgefelError, match=r"5_exp.npy: is not a NumPy file with one number") as caught:
        AffectNet().read(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_annotation_that_is_no_text_is_an_unknown_expression(tmp_path: Path) -> None:
    write_affectnet_npy(tmp_path, indices=(4, 5))
    file = tmp_path / "val_set/annotations/5_exp.npy"
    file.write_bytes(HEAD + b"3\0\0\0")
    assert len(AffectNet().read(tmp_path)) == 4
    file.write_bytes(HEAD + b"\xff\xff\xff\xff")  # beyond Unicode
    with pytest.raises(EdgefelError, match=r"5_exp.npy: expression '\ufffd' is unknown"):
        AffectNet().read(tmp_path)


def test_annotations_where_people_have_them(tmp_path: Path) -> None:
    faces = write_affectnet_npy(tmp_path / "set")
    (tmp_path / "set/val_set").rename(tmp_path / "aside")
    (tmp_path / "set/Val_Set").mkdir()
    (tmp_path / "aside").rename(tmp_path / "set/Val_Set/val_set")
    for file in (tmp_path / "set/train_set/images").iterdir():
        file.rename(file.with_suffix(".PNG"))
    (tmp_path / "set/train_set/annotations/._3_exp.npy").write_bytes(b"of a file system")
    dataset = AffectNet().read(tmp_path / "set")
    assert len(dataset) == len(faces)
    assert {s.path.suffix for s in dataset.samples} == {".PNG", ".jpg"}
    assert all(s.path.is_file() for s in dataset.samples)


def test_one_of_the_sets_is_enough_but_it_must_be_whole(tmp_path: Path) -> None:
    faces = write_affectnet_npy(tmp_path)
    shutil.rmtree(tmp_path / "train_set")
    (tmp_path / "val_set/images/0.jpg").unlink()  # is listed all the same
    assert AffectNet().recognizes(tmp_path)
    assert found(AffectNet().read(tmp_path)) == {face for face in faces if face.split == "val"}
    shutil.rmtree(tmp_path / "val_set/images")
    with pytest.raises(EdgefelError, match=r"val_set/images: no such folder; unpack val_set again"):
        AffectNet().read(tmp_path)


def test_an_annotation_that_cannot_be_read(tmp_path: Path) -> None:
    write_affectnet_npy(tmp_path, indices=(4, 5))
    file = tmp_path / "val_set/annotations/5_exp.npy"
    file.unlink()
    file.mkdir()
    with pytest.raises(EdgefelError, match="5_exp.npy: cannot be read"):
        AffectNet().read(tmp_path)


def test_other_sets_are_not_recognized(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf")
    write_sorted_raf_db(tmp_path / "sorted")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/training.csv").write_text("emotion,pixels\n0,1 2 3\n")
    (tmp_path / "sets/train_set/annotations").mkdir(parents=True)
    (tmp_path / "file.txt").write_text("")
    for name in ("raf", "sorted", "csv", "sets", "file.txt", "nowhere"):
        assert not AffectNet().recognizes(tmp_path / name)
