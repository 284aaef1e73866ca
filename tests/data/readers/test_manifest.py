from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data.readers.trees_jaffe import write_jaffe
from data.readers.trees_manifest import (
    check_manifest,
    write_csv_manifest,
)

from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.readers.manifest import ManifestReader
from edgefel.errors import EdgefelError


@pytest.mark.parametrize("soft", [False, True])
def test_csv(tmp_path: Path, soft: bool) -> None:
    check_manifest(write_csv_manifest(tmp_path, soft), soft)


def test_what_is_recognized(tmp_path: Path) -> None:
    reader = ManifestReader()
    assert reader.recognizes(write_csv_manifest(tmp_path).path)
    (tmp_path / "FACES.PARQUET").write_bytes(b"")
    assert reader.recognizes(tmp_path / "FACES.PARQUET")
    assert not reader.recognizes(tmp_path / "nowhere.csv")
    assert not reader.recognizes(tmp_path)
    assert not reader.recognizes(write_jaffe(tmp_path / "jaffe").root)


def read_csv(folder: Path, text: str) -> Any:
    path = folder / "m.csv"
    path.write_bytes(text.encode())
    return ManifestReader().read(path)


def test_two_columns_are_enough(tmp_path: Path) -> None:
    dataset = read_csv(tmp_path, "label,path\ncontempt,a.png\nfear,b.png\n")
    assert dataset.labels == EXPRESSIONS_8
    assert [(s.label, s.group, s.split, s.box, s.soft) for s in dataset.samples] == [
        (7, "a.png", "", None, None),
        (4, "b.png", "", None, None),
    ]
    assert dataset.groups().tolist() == [0, 1]
    with pytest.raises(UnreadableImageError, match=r"a\.png"):
        dataset.load(0)


def test_a_column_for_contempt_makes_eight_labels(tmp_path: Path) -> None:
    soft = ",".join(f"soft_{name}" for name in EXPRESSIONS_8)
    dataset = read_csv(tmp_path, f"path,label,{soft}\na.png,fear,0,0,0,0,1,0,0,0\n")
    assert dataset.labels == EXPRESSIONS_8
    assert dataset.soft_targets().tolist() == [[0, 0, 0, 0, 1, 0, 0, 0]]


SOFT = ",".join(f"soft_{name}" for name in EXPRESSIONS_7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"m\.csv: missing columns path, label; name the columns"),
        ("path\na.png\n", "missing column label"),
        ("path,label\n", "lists no images"),
        ("path,label\n\n\n", "lists no images"),
        ("path,label\na.png,fear\n,fear\n", "line 3: the path is empty"),
        ("path,label\n\na.png,boredom\n", "line 3: unknown label 'boredom'"),
        ("path,label\na.png,\n", "line 2: unknown label ''"),
        ("path,label\na.png,fear,3\n", "line 2: has 3 cells, the first line 2; correct it"),
        ("path,label\na.png\n", "line 2: has 1 cell"),
        ('path,label,split\n"a\nb.png",fear,\nc.png,fear,dev\n', "line 4: split 'dev' is unknown"),
        ("path,label,x,y\na.png,fear,1,2\n", "has x, y but lacks width, height"),
        (
            "path,label,x,y,width,height\na.png,fear,1,2,3,\n",
            "line 2: a column of x, y, width, height does not",
        ),
        ("path,label,x,y,width,height\na.png,fear,1,2,3,0\n", "line 2: x, y, width, height are not a box"),
        ("path,label,x,y,width,height\na.png,fear,nan,2,3,4\n", "line 2: x, y, width, height are not a box"),
        ("path,label,x,y,width,height\na.png,fear,1,2,3,1e12\n", "are not a box"),
        ("path,label,soft_boredom\na.png,fear,1\n", "unknown label in the column soft_boredom"),
        ("path,label,soft_fear\na.png,fear,1\n", "lacks soft_neutral, soft_happiness"),
        (f"path,label,{SOFT}\na.png,fear,0,0,0,0,0.5,0,0\n", "line 2: the soft_ columns are not a distr"),
        (f"path,label,{SOFT}\na.png,fear,0,0,0,0,1.5,0,-0.5\n", "line 2: the soft_ columns are not a distr"),
        (f"path,label,{SOFT}\na.png,fear,0,0,0,0,nan,0,1\n", "line 2: the soft_ columns are not a distr"),
        ("path,label,group,subject\na.png,fear,1,2\n", "has both columns group and subject"),
        ("path,label,label\na.png,fear,joy\n", "the column label is there twice"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        read_csv(tmp_path, text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff,fear\n")
    with pytest.raises(EdgefelError, match=r"m\.csv: cannot be read as a UTF-8 CSV file"):
        ManifestReader().read(tmp_path / "m.csv")
