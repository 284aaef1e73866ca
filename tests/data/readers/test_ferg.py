from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data.readers.trees_ferg import CHARACTERS, write_ferg
from data.readers.trees_jaffe import write_jaffe

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.ferg import Ferg
from edgefel.errors import EdgefelError


@pytest.mark.parametrize("inside", ["", "FERG_DB_256"])
def test_every_character_and_expression(tmp_path: Path, inside: str) -> None:
    tree = write_ferg(tmp_path / "set", inside)
    dataset = Ferg().read(tree.root)
    assert dataset.labels == EXPRESSIONS_7
    base = tree.root / inside
    names = [s.path.relative_to(base).as_posix() for s in dataset.samples]
    assert dict(zip(names, (dataset.labels[s.label] for s in dataset.samples), strict=True)) == tree.labels
    assert [s.group for s in dataset.samples] == [name.partition("/")[0] for name in names]
    assert {s.group for s in dataset.samples} == set(CHARACTERS)
    assert {s.split for s in dataset.samples} == {""}
    joy = [name.rpartition("_")[2] for name in names if "aia_joy" in name]
    assert joy == ["1.png", "2.png", "10.png"]
    assert dataset.load(names.index("aia/aia_disgust/aia_disgust_1.png"))[0, 0, 0] == 1


def test_folders_of_any_case(tmp_path: Path) -> None:
    tree = write_ferg(tmp_path / "set")
    (tree.root / "FERG_DB_256/ray").rename(tree.root / "FERG_DB_256/Ray")
    (tree.root / "FERG_DB_256/Ray/ray_joy").rename(tree.root / "FERG_DB_256/Ray/Ray_Joy")
    dataset = Ferg().read(tree.root)
    found = {s.path.name: (s.group, dataset.labels[s.label], s.path.is_file()) for s in dataset.samples}
    assert found["ray_joy_6.png"] == ("ray", "happiness", True)


def test_what_is_recognized(tmp_path: Path) -> None:
    reader = Ferg()
    tree = write_ferg(tmp_path / "set")
    assert reader.recognizes(tree.root)
    assert reader.recognizes(tree.root / "FERG_DB_256")
    assert not reader.recognizes(tree.root / "FERG_DB_256/aia")
    assert not reader.recognizes(write_jaffe(tmp_path / "jaffe").root)
    assert not reader.recognizes(tmp_path / "nowhere")
    (tmp_path / "people/ray/happy").mkdir(parents=True)
    assert not reader.recognizes(tmp_path / "people")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    tree = write_ferg(tmp_path / "set", "")
    moved = tree.root / "mery/mery_fear/mery_joy_7.png"
    moved.write_bytes(b"")
    with pytest.raises(
        EdgefelError, match=r"mery_joy_7\.png: not a name of this folder's, such as mery_fear_1"
    ):
        Ferg().read(tree.root)
    moved.unlink()
    (tree.root / "mery/mery_contempt").mkdir()
    with pytest.raises(
        EdgefelError, match=r"mery_contempt: not a folder of mery's expressions; .*mery_anger"
    ):
        Ferg().read(tree.root)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match=r"nowhere: cannot be read as a folder \(No such file"):
        Ferg().read(tmp_path / "nowhere")
    with pytest.raises(EdgefelError, match="no images of FERG-DB"):
        Ferg().read(tmp_path)
    tree = write_ferg(tmp_path / "set")
    shutil.copytree(tree.root / "FERG_DB_256", tree.root / "copy")
    with pytest.raises(EdgefelError, match=r"both .*FERG_DB_256 and .*copy have FERG-DB's characters"):
        Ferg().read(tree.root)
    assert not Ferg().recognizes(tree.root)
