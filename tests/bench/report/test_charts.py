"""What the charts draw of the rows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from bench_rows import example_rows, row, timing

from edgefel.bench.report import charts, curves
from edgefel.bench.report.rows import short_names

DRAWN = [
    (charts.pareto, ["latency, median of an image (ms)", "macro F1 (%)"]),
    (charts.stages, ["time of a call, sum of the stages' medians (ms)"]),
    (charts.distributions, ["time of a call, of the row's median (%)"]),
    (curves.throughput, ["throughput (images/s)", "latency of a call, median (ms)"]),
]


@pytest.mark.parametrize(("draw", "titles"), DRAWN)
def test_every_axis_has_a_title_with_its_unit(draw, titles):
    root = ElementTree.fromstring(draw(example_rows()))
    found = [element.text for element in root.iter("text") if element.get("class") == "axis-title"]
    assert sorted(found) == sorted(titles)
    assert sum(element.get("class") == "tick" for element in root.iter("text")) >= 4
    # nothing lies outside of the image
    width, height = (float(value) for value in root.get("viewBox").split()[2:])
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(element.get(name, 0)) <= most, ElementTree.tostring(element)


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWN])
def test_without_rows_that_have_it_there_is_no_chart(draw):
    assert draw([]) == ""
    assert draw([row("train", {"model": "arbex"}, {"images_per_s": 3})]) == ""


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWN])
def test_one_row_alone_and_odd_values_are_drawn(draw):
    odd = [
        row(
            metrics={
                "latency_ms": {**timing(5.0), "quantiles": ["a", 1, 2, 3, 4]},
                "macro_f1": 1.0,
                "stages_ms": {"a": 5, "b": "c"},
            }
        ),
        row(metrics={"latency_ms": {**timing(5.0), "p50": 0}, "macro_f1": None, "stages_ms": []}),
        row(metrics={"latency_ms": timing(5.0), "macro_f1": 0, "file_bytes": -1, "stages_ms": {"a": 0}}),
        row(
            "throughput",
            {"model": "m", "concurrency": None},
            {"images_per_s": 0, "latency_ms": timing(1.0), "knee": "yes"},
        ),
    ]
    for rows in ([one] for one in odd):
        if drawn := draw(rows):
            ElementTree.fromstring(drawn)
    ElementTree.fromstring(draw(odd) or "<a/>")


def test_the_front_holds_what_nothing_beats():
    def one(model: str, ms: float, f1: float):
        return row(subject={"model": model}, metrics={"latency_ms": timing(ms), "macro_f1": f1})

    points = charts.pareto_points(
        [one("slow", 9, 0.9), one("beaten", 8, 0.7), one("fast", 2, 0.6), one("mid", 5, 0.8)]
    )
    assert [point.name for point in charts.front(points)] == ["fast", "mid", "slow"]


def test_area_is_size_and_hollow_is_unstable():
    def one(model: str, size: float, stable: bool):
        metrics = {
            "latency_ms": {**timing(size), "stable": stable},
            "macro_f1": 0.8 + size / 100,
            "file_bytes": size * 1e6,
        }
        return row(subject={"model": model}, metrics=metrics)

    root = ElementTree.fromstring(charts.pareto([one("large", 12.0, True), one("small", 3.0, False)]))
    large, small = (element for element in root.iter("circle"))
    assert float(large.get("r")) == pytest.approx(2 * float(small.get("r")), rel=0.01)  # four times the area
    assert "hollow" in small.get("class").split()
    assert "hollow" not in large.get("class").split()
    assert large.find("title").text == "large: 12.0 ms, macro F1 92.0 %, 12.0 MB"


def test_stages_are_as_long_as_they_take():
    stages = {"decode": timing(2.0), "model": timing(6.0), "labels": 2.0}
    root = ElementTree.fromstring(
        charts.stages([row("latency", metrics={"latency_ms": timing(10), "stages_ms": stages})])
    )
    bars = [element for element in root.iter("rect") if element.get("class").startswith("bar")]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.02)
    ends = [float(bar.get("x")) + float(bar.get("width")) for bar in bars]
    assert [float(bar.get("x")) for bar in bars[1:]] == pytest.approx(ends[:-1], abs=0.2)
    assert len({bar.get("class") for bar in bars}) == 3
    assert bars[1].find("title").text.endswith("model 6.01 ms, 60 %")


def test_a_wild_row_does_not_flatten_the_others():
    calm, wild = timing(10.0), timing(10.0)
    wild |= {"stable": False, "quantiles": [10 * (1 + index) for index in range(41)]}
    both = [
        row(subject={"model": name}, metrics={"latency_ms": one})
        for name, one in (("calm", calm), ("wild", wild))
    ]
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', charts.distributions(both))
    assert "▸" in ticks
    assert max(float(tick) for tick in ticks if tick not in "▸◂") < 160


def test_curves_are_by_subject_and_mark_the_knee():
    rows = example_rows()
    found = curves.curves(rows)
    assert [curve.name for curve in found] == ["onnxruntime", "openvino"]
    for curve in found:
        assert [one.subject["concurrency"] for one in curve.rows] == [1, 2, 4, 8, 16]
    drawn = curves.throughput(rows)
    assert drawn.count('class="ring') == 2
    assert drawn.count(">4 knee<") == 2


def test_names_say_what_differs():
    same = {"model": "arbex", "precision": "int8", "backend": "openvino", "batch": 1, "threads": 2}
    rows = [
        row(subject=same),
        row(subject={**same, "precision": "fp32", "threads": 1}),
        row(subject={**same, "scope": "model"}),
    ]
    assert short_names(rows) == ["int8, 2 threads", "fp32, 1 thread", "int8, 2 threads, scope model"]
    assert short_names(rows[:1]) == ["arbex int8 openvino, batch 1, threads 2"]
