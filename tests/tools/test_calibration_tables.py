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
