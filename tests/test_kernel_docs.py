"""docs/kernels.md shows what the committed rows say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from kernel_results import PAGE, RESULTS, put_in, table  # noqa: E402


def test_the_table_is_made_from_the_committed_rows():
    page = PAGE.read_text()
    assert put_in(page, table(json.loads(RESULTS.read_text()))) == page


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
