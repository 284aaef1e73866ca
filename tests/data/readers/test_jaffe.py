from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data.readers.trees_ferg import write_ferg
from data.readers.trees_jaffe import NAMES, write_jaffe

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.jaffe import Jaffe
from edgefel.errors import EdgefelError


@pytest.mark.parametrize("inside", ["", "jaffedbase"])
def test_every_expression_and_person(tmp_path: Path, inside: str) -> None:
    tree = write_jaffe(tmp_path / "set", inside)
    dataset = Jaffe().read(tree.root)
    assert dataset.labels == EXPRESSIONS_7
    assert {s.path.name: dataset.labels[s.label] for s in dataset.samples} == tree.labels
    assert {s.path.name: s.group for s in dataset.samples} == tree.groups
    assert {s.split for s in dataset.samples} == {""}
    for index, sample in enumerate(dataset.samples):
        assert dataset.load(index)[0, 0, 0] == 20 * list(NAMES).index(sample.path.name)


def test_names_of_any_case_are_the_same_person(tmp_path: Path) -> None:
    tree = write_jaffe(tmp_path / "set")
    (tree.root / "KA.AN1.39.tiff").rename(tree.root / "ka.an1.39.TIF")
    dataset = Jaffe().read(tree.root)
    found = {s.path.name: (dataset.labels[s.label], s.group) for s in dataset.samples}
    assert found["ka.an1.39.TIF"] == ("anger", "KA")


def test_what_is_recognized(tmp_path: Path) -> None:
    reader = Jaffe()
    assert reader.recognizes(write_jaffe(tmp_path / "flat").root)
    assert reader.recognizes(write_jaffe(tmp_path / "deep", "jaffe").root)
    assert not reader.recognizes(write_ferg(tmp_path / "ferg").root)
    assert not reader.recognizes(tmp_path / "nowhere")
    assert not reader.recognizes(tmp_path / "flat" / "README_FIRST.txt")
    (tmp_path / "tiffs").mkdir()
    (tmp_path / "tiffs/scan.tiff").write_bytes(b"")
    assert not reader.recognizes(tmp_path / "tiffs")


@pytest.mark.parametrize("name", ["KA.XX1.39.tiff", "KA.AN.39.tiff", "KA.AN1.tiff", "scan.tif"])
def test_a_tiff_with_another_name_is_refused(tmp_path: Path, name: str) -> None:
    tree = write_jaffe(tmp_path / "set")
    (tree.root / name).write_bytes(b"")
    with pytest.raises(EdgefelError, match=rf"{name}: not a name of JAFFE's.*KA\.AN1\.39\.tiff"):
        Jaffe().read(tree.root)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgefelError, match=r"nowhere: cannot be listed \(No such file"):
        Jaffe().read(tmp_path / "nowhere")
    with pytest.raises(EdgefelError, match=r"no \.tiff files in it"):
        Jaffe().read(tmp_path)
    tree = write_jaffe(tmp_path / "set", "a")
    shutil.copytree(tree.root / "a", tree.root / "b")
    with pytest.raises(EdgefelError, match=r"set/a and in .*set/b; give one of them"):
        Jaffe().read(tree.root)
