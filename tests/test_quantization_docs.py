"""The committed rows of docs/quantization.md hold what the project promises."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def test_the_rows_hold_what_is_promised():
    """INT8 of the full model and of the trained small one, as committed."""
    speed = {row["name"]: row for row in json.loads((RESULTS / "precisions.json").read_text())["rows"]}
    assert speed["int8"]["times_as_fast_as_eager"] >= 2.2
    assert speed["fp32"]["times_as_fast_as_eager"] >= 1.3
    assert speed["int8"]["megabytes"] <= 60
    calibration = json.loads((RESULTS / "calibration.json").read_text())
    assert (calibration["model"], calibration["images"]) == ("arbex", 512)
    assert calibration["peak_mb"] < 4000
    trained = json.loads((RESULTS / "int8-nano.json").read_text())
    for row in trained["mixed"]["files"]:
        assert row["images"] == 2000
        assert row["agreement"] >= (0.995 if row["precision"] in ("fp32", "fp16") else 0.98)
        assert row["worst_recall_change"] >= -1.5
    broken = trained["broken"]
    assert broken["verdict"] == "fail"
    assert broken["costliest_layers"][0]["node"] == broken["layer"]
