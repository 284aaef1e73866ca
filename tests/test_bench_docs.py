"""The committed rows of docs/bench.md hold what the project promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.bench.results import read_results

RESULTS = Path(__file__).parent.parent / "docs" / "results"
COMPARED, BASELINE, DATA_PATH = "compare-2core.jsonl", "baseline-2core.jsonl", "data-path.jsonl"


@pytest.fixture(scope="module")
def rows():
    return read_results(RESULTS / COMPARED).rows


@pytest.mark.parametrize("name", [COMPARED, BASELINE, DATA_PATH])
def test_committed_rows_are_whole_and_of_a_known_commit(name):
    loaded = read_results(RESULTS / name)
    assert loaded.rows
    assert loaded.problems == ()
    assert all(row.environment["commit"] for row in loaded.rows)


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
