"""Files to rows, and which rows are shown."""

from __future__ import annotations

import pytest
from bench_rows import ORIN, compared, row, timing, write_rows

from edgefel.bench.report.rows import collect, finite, pair, repetitions, steadiness
from edgefel.errors import EdgefelError
from edgefel.report.formats import interval, megabytes, percent, significant


def test_folders_hold_their_files_and_no_file_counts_twice(tmp_path):
    write_rows(tmp_path / "a.jsonl", [row()])
    write_rows(tmp_path / "b.jsonl", [row(device=ORIN)])
    (tmp_path / "notes.txt").write_text("not rows")
    collection = collect([tmp_path, tmp_path / "a.jsonl"])
    assert [one.device for one in collection.rows] == list(collection.devices)
    assert collection.devices[1] == ORIN
    assert [path.name for path in collection.files] == ["a.jsonl", "b.jsonl"]


def test_what_holds_no_rows_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.jsonl").write_text("{\n")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("missing.jsonl", "missing.jsonl: no such file or folder"),
        ("folder", r"folder: holds no \*.jsonl"),
        ("empty.jsonl", "empty.jsonl: no result rows; measure with"),
        ("broken.jsonl", "no result rows; .*broken.jsonl, line 1: not a line of JSON"),
    ):
        with pytest.raises(EdgefelError, match=message):
            collect([tmp_path / name])


def test_the_newest_is_shown_whatever_the_order_of_the_files():
    old, new = (
        row(metrics=compared(ms), time=f"2026-11-{day}T00:00:00+00:00") for ms, day in ((20, 10), (30, 21))
    )
    other = row(device=ORIN)
    groups = repetitions([new, old, other])
    assert groups[(new.device, new.key)].newest is new
    assert groups[(new.device, new.key)].rows == (old, new)
    assert len(groups) == 2


def test_a_row_is_as_steady_as_its_least_steady_number():
    steady, shaky = {**timing(5.0), "stable": True}, {**timing(5.0), "stable": False, "reason": "it drifts"}
    ratio = {"value": 2.0, "interval": [1.9, 2.1], "stable": False, "reason": "so does the ratio"}
    assert steadiness(row(metrics={"latency_ms": steady})) == (True, "")
    assert steadiness(row(metrics={"latency_ms": shaky})) == (False, "it drifts")
    assert steadiness(row(metrics={"latency_ms": steady, "ratio": ratio})) == (False, "so does the ratio")
    assert steadiness(row("train", metrics={"images_per_s": 3})) == (None, "")


def test_numbers_as_people_read_them():
    assert [significant(value) for value in (0, 0.01234, 9.996, 12.345, 999.7, 12345.6, None)] == [
        *("0", "0.0123", "10.0", "12.3", "1 000", "12 346", "–")
    ]
    assert interval((12.21, 12.49), 12.3) == "12.2–12.5"
    assert interval((99.86, 100.04), 100.0) == "99.9–100.0"  # without the decimal: 100–100
    assert interval(None, 3.0) == ""
    assert (percent(0.9214), percent(None), megabytes(45_800_000)) == ("92.1 %", "–", "45.8 MB")


def test_what_is_no_number_is_left_out():
    assert [finite(value) for value in (True, "1", None, float("nan"), float("inf"), 10**400)] == [None] * 6
    assert finite(3) == 3.0
    assert [pair(value) for value in ([1, 2], [1], "ab", [1, "b"])] == [(1.0, 2.0), None, None, None]
