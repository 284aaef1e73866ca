"""Manifests in Parquet, and images within such a file."""

from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.readers.trees_manifest import LABELS, ROWS, check_manifest, manifest_rows, write_parquet_manifest

from edgefel.data.images import UnreadableImageError
from edgefel.data.readers.manifest import ManifestReader
from edgefel.errors import EdgefelError, MissingDependencyError


@pytest.mark.parametrize("soft", [False, True])
def test_parquet(tmp_path: Path, soft: bool) -> None:
    pytest.importorskip("pyarrow")
    check_manifest(write_parquet_manifest(tmp_path, soft), soft)


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


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(EdgefelError, match=r"m\.parquet: cannot be read as a Parquet file"):
        ManifestReader().read(tmp_path / "m.parquet")
