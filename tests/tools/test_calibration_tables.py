"""Tables of calibration say which ranges their rows judged."""

from __future__ import annotations

import calibration_tables
import pytest

COMPARISON = {
    "source": {"model": "arbex-nano"},
    "options": {"seeds": 5, "imbalance": 50.0, "method": "sqnr"},
    "held_out": {"counts": {"fear": 30, "anger": 70}},
    "verdicts": ["1 per class: better", "8 per class: worse"],
    "design": {"file": "the one for ONNX Runtime"},
    "made_by": "`edgefel calibrate --compare`",
}


def test_a_comparison_says_what_was_compared():
    lines = calibration_tables.comparison(COMPARISON).splitlines()
    said = "On a trained `arbex-nano`, ranges by `sqnr`, 5 seeds, imbalance 50, 100 held-out synthetic faces:"
    assert lines[0] == said
    assert lines[2:4] == ["- 1 per class: better", "- 8 per class: worse"]
    assert lines[-1] == "`edgefel calibrate --compare`."


@pytest.mark.parametrize("design", [{}, {"file": "x"}])
def test_rows_of_an_earlier_version_are_named(design):
    said = calibration_tables.comparison(COMPARISON | {"design": design})
    assert ("symmetric ranges" in said) == (not design)


def test_means_of_every_set_with_intervals():
    interval = {"value": 0.5, "low": 0.25, "high": 0.751}
    measures = dict.fromkeys(calibration_tables.MEASURES, interval) | {
        "sqnr_db": {"value": 30.04, "low": 29.0, "high": 31.0}
    }
    sets = [{"strategy": "fp32", "per_class": None}, {"strategy": "balanced", "per_class": 8}]
    document = COMPARISON | {"summaries": [one | {"measures": measures} for one in sets]}
    fp32, balanced = calibration_tables.comparison_fer_plus(document).splitlines()[-4:-2]
    same = "| 50.0 [25.0, 75.1] " * 3
    assert fp32 == f"|  | fp32 {same}|  |  |"
    assert balanced == f"| 8 | balanced {same}| 50.0 [25.0, 75.1] | 30.0 [29.0, 31.0] |"
