from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.readers.trees_aff_wild2 import write_aff_wild2
from data.readers.trees_expw import Face, faces_of_every_class, write_expw
from data.readers.trees_fer_plus import write_fer_plus

from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.expw import ExpW
from edgefel.errors import EdgefelError


def test_every_class_is_read_by_name(tmp_path: Path) -> None:
    faces = faces_of_every_class()
    write_expw(tmp_path, faces)
    dataset = ExpW().read(tmp_path)
    assert dataset.labels == EXPRESSIONS_7
    assert [dataset.labels[label] for label in dataset.targets()] == [face.expression for face in faces]
    assert {sample.split for sample in dataset.samples} == {""}


def test_each_face_is_cut_out_of_its_image(tmp_path: Path) -> None:
    """A list has top before left: exchanged, they would give the background."""
    faces = faces_of_every_class()
    write_expw(tmp_path, faces)
    dataset = ExpW().read(tmp_path)
    for index, face in enumerate(faces):
        image = dataset.load(index)
        assert dataset.samples[index].box == face.box
        assert image.shape == (face.box[3], face.box[2], 3)
        # the middle, since JPEG mixes the colours of a block
        assert np.abs(image[8, 8].astype(int) - face.colour).max() <= 6


def test_faces_of_one_image_are_a_group(tmp_path: Path) -> None:
    faces = faces_of_every_class()
    write_expw(tmp_path, faces)
    dataset = ExpW().read(tmp_path)
    assert [sample.group for sample in dataset.samples] == [face.image for face in faces]
    assert dataset.groups()[-1] == dataset.groups()[0]
    assert len(set(dataset.groups())) == len(faces) - 1


@pytest.mark.parametrize(
    ("folder", "list_folder", "image_folder"),
    [
        (".", "label", "image/origin"),
        ("ExpW", "label", "data/image/origin"),
        (".", ".", "Origin"),
        ("expw", ".", "image"),
    ],
)
def test_other_places(tmp_path: Path, folder: str, list_folder: str, image_folder: str) -> None:
    write_expw(tmp_path / folder, faces_of_every_class(), list_folder=list_folder, image_folder=image_folder)
    assert ExpW().recognizes(tmp_path)
    dataset = ExpW().read(tmp_path)
    assert dataset.load(0).shape == (16, 16, 3)


def test_windows_text_and_names_with_spaces(tmp_path: Path) -> None:
    path = write_expw(tmp_path, [Face("a b_1.jpg", 0, (3, 5, 16, 16), "fear", (9, 9, 9))])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert ExpW().recognizes(tmp_path)
    (sample,) = ExpW().read(tmp_path).samples
    assert sample.path == tmp_path / "origin/a b_1.jpg"


def test_a_missing_image_is_named_when_it_is_loaded(tmp_path: Path) -> None:
    faces = faces_of_every_class()
    write_expw(tmp_path, faces)
    (tmp_path / "origin" / faces[2].image).unlink()
    dataset = ExpW().read(tmp_path)
    assert len(dataset) == len(faces)
    with pytest.raises(UnreadableImageError, match=faces[2].image):
        dataset.load(2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 0 28 113 226 141 22.9362 7", "label.lst line 2: class 7 is unknown; its classes are 0 to 6"),
        ("a.jpg 0 28 113 226 141 22.9362 -1", "line 2: class -1 is unknown"),
        ("a.jpg 0 28 113 226 141 0", "line 2: not a face of ExpW"),
        ("a.jpg 0 28 113 226 141 22.9362 happy", "line 2: not a face of ExpW"),
        ("a.jpg 0 28 113 113 141 22.9362 1", "line 2: not a face of ExpW"),
        ("a.jpg 0 28 113 226 28 22.9362 1", "line 2: not a face of ExpW"),
        ("a.jpg 0 28 113 99999999999 141 22.9362 1", "line 2: not a face of ExpW"),
        ("", "line 2: not a face of ExpW"),
    ],
)
def test_a_malformed_line_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = write_expw(tmp_path, faces_of_every_class())
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([first, line, *rest]), encoding="utf-8")
    with pytest.raises(EdgefelError, match=message):
        ExpW().read(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match=r"no label.lst; put ExpW's list"):
        ExpW().read(tmp_path)
    path = write_expw(tmp_path, faces_of_every_class(), image_folder="elsewhere")
    with pytest.raises(EdgefelError, match="no folder origin with the images"):
        ExpW().read(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "origin")
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(EdgefelError, match="lists no faces"):
        ExpW().read(tmp_path)
    path.write_bytes(b"\xfa\xfb")
    with pytest.raises(EdgefelError, match="cannot be read as UTF-8 text"):
        ExpW().read(tmp_path)


def test_recognizes_no_other_set(tmp_path: Path) -> None:
    write_fer_plus(tmp_path / "fer")
    write_aff_wild2(tmp_path / "aff")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/label.lst").write_text("image.jpg 3\n", encoding="utf-8")
    for name in ("fer", "aff", "other", "other/label.lst", "nowhere"):
        assert not ExpW().recognizes(tmp_path / name), name
