"""docs/kernels.md is of rows that say how they were made."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "kernels-compiled.json"


def test_the_rows_say_how_they_were_made():
    document = json.loads(RESULTS.read_text())
    assert document["command"] == "edgefel bench kernels"
    assert document["reason"] == "no CUDA device: nothing was timed"
    assert {row["arch"] for row in document["compiled"]} == {
        f"sm_{arch}" for arch in (75, 80, 87, 90, 110, 120)
    }


def test_what_the_page_says_of_spills_is_so():
    rows = json.loads(RESULTS.read_text())["compiled"]
    assert all(row["resources"]["stack_bytes"] == 0 for row in rows)
