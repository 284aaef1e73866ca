"""The table of docs/bench.md is what the committed rows say, and they hold what the project promises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgefel.bench.results import read_results

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from bench_tables import BASELINE, COMPARED, PAGE, RESULTS, TABLES, read  # noqa: E402
from quantization_tables import put_in  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return read(COMPARED)


@pytest.mark.parametrize("name", [COMPARED, BASELINE])
def test_committed_rows_are_whole_and_of_a_known_commit(name):
    loaded = read_results(RESULTS / name)
    assert loaded.rows
    assert loaded.problems == ()
    assert all(row.environment["commit"] for row in loaded.rows)


@pytest.mark.parametrize("name", list(TABLES))
def test_the_page_says_what_was_measured(name):
    results, table = TABLES[name]
    text = PAGE.read_text(encoding="utf-8")
    assert put_in(text, name, table(read(results))) == text, "run: python tools/bench_tables.py"


@pytest.mark.parametrize(
    ("backend", "threads", "least"),
    [("onnxruntime", 1, 2.2), ("onnxruntime", 2, 1.6), ("openvino", 1, 3.5), ("openvino", 2, 4.0)],
)
def test_int8_against_eager_poster_v2(rows, backend, threads, least):
    subject = {"model": "arbex", "precision": "int8", "backend": backend, "batch": 1, "threads": threads}
    (row,) = [row for row in rows if row.subject == subject]
    assert row.metrics["ratio"]["to"] == "poster-v2 fp32 pytorch"
    assert row.metrics["ratio"]["value"] >= least
    assert row.metrics["ratio"]["stable"] or row.metrics["ratio"]["reason"]
