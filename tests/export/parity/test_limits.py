"""Limits from a file, and every way that such a file can be wrong."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.export.parity.limits import LIMITS, ParityLimits, load_limits


def test_the_defaults_are_the_documented_ones():
    assert LIMITS["fp32"] == ParityLimits(max_deviation=1e-4, fatal=True)
    assert LIMITS["fp16"] == ParityLimits(min_sqnr_db=30, min_agreement=0.995, max_recall_loss=1.5)
    for name in ("int8", "int8+fp16"):
        assert LIMITS[name] == ParityLimits(
            min_sqnr_db=10, min_agreement=0.98, max_recall_loss=1.5, max_f1_loss=1, max_ece_rise=3
        )
    assert load_limits(None) == LIMITS
    assert not LIMITS["fp32"].judges_labels


def test_a_file_changes_what_it_names(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text(
        "int8:\n  min_agreement: 0.9\n  max_ece_rise: null\n  min_per_class: 10\nfp32: {max_deviation: 1e-5}\n"
    )
    limits = load_limits(file)
    assert limits["int8"] == ParityLimits(
        min_sqnr_db=10, min_agreement=0.9, max_recall_loss=1.5, max_f1_loss=1, min_per_class=10
    )
    assert limits["fp32"] == ParityLimits(max_deviation=1e-5, fatal=True)
    assert limits["fp16"] == LIMITS["fp16"]


BAD = {
    "unknown precision": ("int4: {min_agreement: 0.9}", "unknown precision int4; known are fp32"),
    "unknown limit": ("int8: {agreement: 0.9}", "int8: unknown limit agreement; known are max_deviation"),
    "fatal is not a limit": ("int8: {fatal: false}", "unknown limit fatal"),
    "above one": ("int8: {min_agreement: 98}", "min_agreement is 98; it must be a number from 0 to 1"),
    "negative": ("int8: {max_recall_loss: -1}", "max_recall_loss is -1; it must be a number from 0 to 100"),
    "not a number": ("int8: {max_f1_loss: .nan}", "max_f1_loss is nan"),
    "text": ("int8: {max_f1_loss: much}", "max_f1_loss is 'much'"),
    "a flag": ("int8: {max_f1_loss: true}", "max_f1_loss is True"),
    "no image": ("int8: {min_images: 0}", "min_images is 0; it must be a whole number of at least 1"),
    "half an image": ("int8: {min_per_class: 1.5}", "min_per_class is 1.5; it must be a whole number"),
    "a count of nothing": ("int8: {min_images: null}", "min_images is None"),
    "no mapping": ("int8: 0.9", "int8 must hold names and values"),
    "a list": ("[1, 2]", "must hold precisions"),
    "empty": ("", "must hold precisions"),
    "no YAML": ("int8: {", "not valid YAML"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_names_it(case, tmp_path):
    text, message = BAD[case]
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    with pytest.raises(EdgefelError) as caught:
        load_limits(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(EdgefelError, match="no such file"):
        load_limits(tmp_path / "limits.yaml")
