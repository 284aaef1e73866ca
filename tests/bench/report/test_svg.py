"""Axes, ticks and labels."""

from __future__ import annotations

import re

import pytest

from edgefel.bench.report.svg import (
    Axis,
    Box,
    Spot,
    linear_ticks,
    log_ticks,
    mark,
    padded,
    place_labels,
    shortened,
    text,
    tick_text,
)


def test_ticks_are_round_and_within_the_ends():
    assert linear_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert linear_ticks(0.83, 0.94) == [0.84, 0.86, 0.88, 0.9, 0.92, 0.94]
    assert linear_ticks(-3, 4) == [-2, 0, 2, 4]
    assert log_ticks(2, 170) == [2, 5, 10, 20, 50, 100]
    assert log_ticks(1, 1e6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    # less than a decade: the steps of a logarithm would be one or none
    assert log_ticks(30, 34) == [30, 31, 32, 33, 34]
    assert [tick_text(value) for value in (0.5, 20.0, 1000.0, 2e7)] == ["0.5", "20", "1 000", "2e+07"]


def test_an_axis_maps_its_ends_and_keeps_what_lies_beyond():
    axis = Axis("latency (ms)", 1, 100, 10, 210, log=True)
    assert [axis.at(value) for value in (0.5, 1, 10, 100, 1e9)] == pytest.approx([10, 10, 110, 210, 210])
    upwards = Axis("macro F1 (%)", 80, 90, 300, 100)
    assert [upwards.at(value) for value in (80, 85, 90)] == [300, 200, 100]


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True), (float("nan"), 1, False)]
)
def test_an_axis_without_a_range_is_refused(low, high, log):
    with pytest.raises(ValueError, match="axis 'x'"):
        Axis("x", low, high, 0, 1, log)


def test_one_value_alone_still_has_an_axis():
    for ends in (padded([5.0]), padded([0.0]), padded([5.0], log=True)):
        Axis("x", *ends, 0, 1)
    assert padded([1, 11], least=0.5) == (0.5, 12)


def test_labels_cover_neither_marks_nor_each_other():
    spots = [Spot(200 + 9 * (index % 4), 150 + 9 * (index // 4), 5, f"model {index}") for index in range(12)]
    bounds = Box(0, 0, 400, 300)
    places = [box for box in place_labels(spots, bounds) if box is not None]
    marks = [Box(s.x - 5, s.y - 5, s.x + 5, s.y + 5) for s in spots]
    assert 2 <= len(places) < len(spots)  # there is no room for all of them
    for index, box in enumerate(places):
        assert box.within(bounds)
        assert not any(box.overlaps(other) for other in (*places[:index], *marks))


def test_labels_keep_clear_of_lines_where_they_can():
    spot, line = Spot(100, 100, 5, "here"), Box(105, 99, 400, 101)
    free, kept = (place_labels([spot], Box(0, 0, 400, 300), lines)[0] for lines in ([], [line]))
    assert free is not None
    assert kept is not None
    assert free.overlaps(line)
    assert not kept.overlaps(line)
    # a crossed label is better than none
    assert place_labels([spot], Box(100, 90, 400, 110), [line]) == [free]


def test_text_is_escaped():
    hostile = '<script>alert("x")</script>'
    for made in (text(0, 0, hostile, "label"), mark("<circle r='1'", hostile)):
        assert "<script" not in made
        assert re.search(r"&lt;script&gt;", made)
    assert mark("<circle r='1'", "a") == "<circle r='1'><title>a</title></circle>"
    assert shortened("arbex int8, openvino", 60) == "arbex in…"
    assert shortened("short", 60) == "short"
