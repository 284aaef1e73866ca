from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.readers.trees_jaffe import write_jaffe
from data.readers.trees_manifest import (
    LABELS,
    ROWS,
    WrittenManifest,
    manifest_rows,
    write_csv_manifest,
    write_parquet_manifest,
)

from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.readers.manifest import ManifestReader
from edgefel.errors import EdgefelError, MissingDependencyError


def check(written: WrittenManifest, soft: bool) -> None:
    dataset = ManifestReader().read(written.path)
    assert dataset.labels == EXPRESSIONS_7
    assert [(dataset.labels[s.label], s.split, s.group) for s in dataset.samples] == written.rows
    for index, sample in enumerate(dataset.samples):
        assert dataset.load(index).shape == (5, 4, 3)
        assert dataset.load(index)[0, 0, 0] == 30 * index
        assert sample.box == (1, 2, 4, 5)
        if soft:
            assert sample.soft is not None
            assert np.argmax(sample.soft) == sample.label
    assert (dataset.soft_targets() is not None) == soft


@pytest.mark.parametrize("soft", [False, True])
def test_csv(tmp_path: Path, soft: bool) -> None:
    check(write_csv_manifest(tmp_path, soft), soft)


@pytest.mark.parametrize("soft", [False, True])
def test_parquet(tmp_path: Path, soft: bool) -> None:
    pytest.importorskip("pyarrow")
    check(write_parquet_manifest(tmp_path, soft), soft)


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


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff,fear\n")
    with pytest.raises(EdgefelError, match=r"m\.csv: cannot be read as a UTF-8 CSV file"):
        ManifestReader().read(tmp_path / "m.csv")
    pytest.importorskip("pyarrow")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(EdgefelError, match=r"m\.parquet: cannot be read as a Parquet file"):
        ManifestReader().read(tmp_path / "m.parquet")


def test_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.compute", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgefel\[data\]'"):
        ManifestReader().read(tmp_path / "m.parquet")


def write_table(path: Path, columns: dict[str, Any], classes: list[str] | None = None) -> Path:
    pa = pytest.importorskip("pyarrow")
    import json

    import pyarrow.parquet as pq

    table = pa.table(columns)
    if classes is not None:
        features = {"label": {"names": classes, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=3)
    return path


@pytest.mark.parametrize("form", ["struct", "bytes"])
def test_images_inside_of_a_parquet_file(tmp_path: Path, form: str) -> None:
    rows = manifest_rows(tmp_path)
    data = [(tmp_path / row["path"]).read_bytes() for row in rows]
    names = [f"{n}.png" if n != 4 else None for n in range(7)]
    images = [{"bytes": d, "path": n} for d, n in zip(data, names, strict=True)] if form == "struct" else data
    # the class names of the file are the only source of the order
    path = write_table(
        tmp_path / "m.parquet", {"image": images, "label": list(range(7))}, [row["label"] for row in ROWS]
    )
    for row in rows:
        (tmp_path / row["path"]).unlink()
    dataset = ManifestReader().read(path)
    assert [dataset.labels[s.label] for s in dataset.samples] == list(LABELS)
    assert [s.read() for s in dataset.samples] == data
    assert dataset.samples[4].path == path / "row-4"
    assert dataset.samples[4].group == "row-4"
    assert dataset.samples[0].path == path / ("0.png" if form == "struct" else "row-0")
    assert not dataset.samples[0].is_file
    order = np.random.default_rng(0).integers(0, 7, 100).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: dataset.samples[n].read(), order)) == [data[n] for n in order]
    child = os.fork()
    if child == 0:
        os._exit(0 if [s.read() for s in dataset.samples] == data else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [s.read() for s in pickle.loads(pickle.dumps(dataset)).samples] == data


def test_a_image_that_is_null_is_unreadable(tmp_path: Path) -> None:
    path = write_table(tmp_path / "m.parquet", {"image": [None, b"x"], "label": ["fear", "fear"]})
    with pytest.raises(UnreadableImageError, match=r"m\.parquet/row-0: .*holds no bytes"):
        ManifestReader().read(path).load(0)


def test_dictionaries_and_nulls(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    columns = {
        "path": pa.chunked_array([["ä.png", "b.png"], ["c.png"]]),
        "label": pa.chunked_array([["joy", "fear"], ["joy"]]).dictionary_encode(),
        "split": [None, "val", "Train"],
        "group": [3, None, 3],
    }
    dataset = ManifestReader().read(write_table(tmp_path / "m.parquet", columns))
    assert [(s.path.name, dataset.labels[s.label], s.split, s.group) for s in dataset.samples] == [
        ("ä.png", "happiness", "", "3"),
        ("b.png", "fear", "val", "b.png"),
        ("c.png", "happiness", "train", "3"),
    ]


@pytest.mark.parametrize(
    ("columns", "classes", "message"),
    [
        ({"path": ["a"]}, None, "missing column label"),
        ({"label": ["fear"]}, None, "missing column path"),
        ({"path": [None], "label": ["fear"]}, None, "row 0: the path is empty"),
        ({"path": ["a", "b"], "label": ["fear", None]}, None, "row 1: unknown label ''"),
        ({"path": ["a"], "label": [1]}, None, "label holds numbers, and nothing in the file says"),
        ({"path": ["a", "b"], "label": [0, 2]}, ["joy", "fear"], "row 1: class 2 is unknown; .* joy, fear"),
        ({"path": ["a", "b"], "label": [0, None]}, ["joy"], "1 row has no label"),
        ({"path": ["a"], "label": [0]}, ["boredom"], "row 0: unknown label 'boredom'"),
        ({"image": ["a"], "label": ["fear"]}, None, "column image is string; it must hold bytes"),
        (
            {"path": ["a"], "label": ["fear"]} | {name: ["1"] for name in ("x", "y", "width", "height")},
            None,
            "column x is string; it must hold numbers",
        ),
        (
            {"path": ["a"], "label": ["fear"]} | {name: [None] for name in ("x", "y", "width", "height")},
            None,
            "column x is null; it must hold numbers",
        ),
        ({"path": [], "label": []}, None, "lists no images"),
    ],
)
def test_broken_parquet_is_refused(
    tmp_path: Path, columns: dict[str, Any], classes: list[str] | None, message: str
) -> None:
    with pytest.raises(EdgefelError, match=message):
        ManifestReader().read(write_table(tmp_path / "m.parquet", columns, classes))
