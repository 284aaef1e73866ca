"""A comparison in words and on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgefel.bench.experiments.calibration.intervals import Interval
from edgefel.bench.experiments.calibration.report import (
    comparison_document,
    shown,
    verdicts,
    write_comparison,
)


def test_the_verdict_follows_from_the_interval(comparison):
    difference = comparison.differences[0]
    for low, high, words in (
        (0.01, 0.03, "better"),
        (-0.03, -0.01, "worse"),
        (-0.01, 0.02, "no difference shown at this size"),
    ):
        interval = Interval((low + high) / 2, low, high)
        judged = replace(difference, measures={**difference.measures, "macro_f1": interval})
        assert judged.verdict == words
        sentence = verdicts(replace(comparison, differences=(judged,)))[0]
        assert sentence.startswith(f"1 per class (8 images), balanced against random: {words} (macro F1 ")
        assert f"[{100 * low:+.1f}, {100 * high:+.1f}] points" in sentence


def test_numbers_are_shown_in_their_units():
    assert shown("macro_f1", Interval(0.5, 0.4, 0.613)) == "50.0 [40.0, 61.3]"
    assert shown("tail_sqnr_db", Interval(0.5, -0.4, 0.6), signed=True) == "+0.5 [-0.4, +0.6]"
    assert shown("recall_fear", Interval(None, None, None)) == "-"


def test_both_files_are_written_or_none(comparison, tmp_path):
    document = comparison_document(comparison, {"model": "tiny"}, {"onnx": "1"}, "edgefel calibrate ...")
    write_comparison(tmp_path / "out", comparison, document)
    written = json.loads((tmp_path / "out/comparison.json").read_text())
    assert len(written["rows"]) == 12
    assert written["tools"]["onnx"] == "1"
    assert written["verdicts"] == verdicts(comparison)
    assert written["pools"][1]["seed"] == 1
    image = cv2.imread(str(tmp_path / "out/comparison.png"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    with pytest.raises(ValueError, match="JSON"):
        write_comparison(tmp_path / "nothing", comparison, {"rows": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
