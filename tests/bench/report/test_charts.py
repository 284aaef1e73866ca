"""What the charts draw of the rows."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from bench_rows import example_rows, row, timing

from edgefel.bench.report import charts
from edgefel.bench.report.rows import short_names
from edgefel.report.figures import LIGHT, to_svg

DRAWN = [
    (charts.pareto, ["latency, median of an image (ms)", "macro F1 (%)"]),
    (charts.stages, ["time of a call, sum of the stages' medians (ms)"]),
    (charts.distributions, ["time of a call, of the row's median (%)"]),
    (charts.throughput, ["throughput (images/s)", "latency of a call, median (ms)"]),
]


def drawn(figure) -> ElementTree.Element:
    return ElementTree.fromstring(to_svg(figure, "chart"))


def of_class(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [group for group in root.iter("g") if kind in group.get("class", "").split()]


@pytest.mark.parametrize(("draw", "titles"), DRAWN)
def test_every_axis_has_a_title_with_its_unit(draw, titles):
    figure = draw(example_rows())
    root = drawn(figure)
    found = ["".join(group.itertext()).strip() for group in of_class(root, "axis-title")]
    assert sorted(found) == sorted(titles)
    (axes,) = figure.axes
    assert sum(bool(tick.get_text()) for tick in axes.get_xticklabels() + axes.get_yticklabels()) >= 4
    # nothing lies outside of the image
    width, height = (float(value) for value in root.get("viewBox").split()[2:])
    for element in (*root.iter("text"), *root.iter("use")):
        for name, most in (("x", width), ("y", height)):
            assert 0 <= float(element.get(name, 0)) <= most, ElementTree.tostring(element)


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWN])
def test_without_rows_that_have_it_there_is_no_chart(draw):
    assert draw([]) is None
    assert draw([row("train", {"model": "arbex"}, {"images_per_s": 3})]) is None


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
        row(metrics={"latency_ms": {**timing(5.0), "p50": float("nan")}, "macro_f1": 0.5, "stages_ms": {}}),
        row(metrics={"latency_ms": timing(5.0), "macro_f1": 0, "file_bytes": -1, "stages_ms": {"a": 0}}),
        row(
            "throughput",
            {"model": "m", "concurrency": None},
            {"images_per_s": 0, "latency_ms": timing(1.0), "knee": "yes"},
        ),
    ]
    for rows in ([one] for one in odd):
        if (figure := draw(rows)) is not None:
            drawn(figure)
    if (figure := draw(odd)) is not None:
        drawn(figure)


HOSTILE = ("<script>alert('x')</script>", 'a & b "c"', "$\\frac{$ and $x$", "bell \x07\ud800", "表情")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWN])
def test_a_name_stays_a_name_inside_a_chart(draw, name):
    """In labels, legends, row names and tooltips."""
    metrics = {"latency_ms": timing(5.0), "macro_f1": 0.9, "stages_ms": {name: 5.0}, "images_per_s": 3.0}
    rows = [
        row(kind, {"model": name, "backend": other, "batch": 1}, metrics)
        for kind in ("compare", "throughput")
        for other in (name, "openvino")
    ]
    text = to_svg(draw(rows), "chart")
    root = ElementTree.fromstring(text)
    assert root.find(".//script") is None
    assert "<script" not in text
    shown = name.translate(dict.fromkeys((7, 0xD800), "\ufffd"))
    said = ["".join(element.itertext()) for kind in ("text", "title") for element in root.iter(kind)]
    assert any(shown in one for one in said)


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

    figure = charts.pareto([one("large", 12.0, True), one("small", 3.0, False)])
    small, large = (line for line in figure.axes[0].lines if line.get_marker() == "o")  # the front first
    assert large.get_markersize() == pytest.approx(
        2 * small.get_markersize(), rel=0.01
    )  # four times the area
    assert small.get_markerfacecolor() == LIGHT["paper"]
    assert large.get_markerfacecolor() != LIGHT["paper"]
    root = drawn(figure)
    assert sorted(dot.get("class") for dot in of_class(root, "dot")) == ["dot", "dot hollow"]
    assert [
        mark.find("title").text for mark in of_class(root, "dot") if "hollow" not in mark.get("class")
    ] == ["large: 12.0 ms, macro F1 92.0 %, 12.0 MB"]


def test_stages_are_as_long_as_they_take():
    stages = {"decode": timing(2.0), "model": timing(6.0), "labels": 2.0}
    figure = charts.stages([row("latency", metrics={"latency_ms": timing(10), "stages_ms": stages})])
    bars = figure.axes[0].patches
    assert bars[1].get_width() / bars[0].get_width() == pytest.approx(3, rel=0.02)
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    assert [bar.get_x() for bar in bars[1:]] == pytest.approx(ends[:-1], abs=0.01)
    assert len({bar.get_facecolor() for bar in bars}) == 3
    titles = [bar.find("title").text for bar in of_class(drawn(figure), "bar")]
    assert titles[1].endswith("model 6.01 ms, 60 %")


def test_a_wild_row_does_not_flatten_the_others():
    calm, wild = timing(10.0), timing(10.0)
    wild |= {"stable": False, "quantiles": [10 * (1 + index) for index in range(41)]}
    both = [
        row(subject={"model": name}, metrics={"latency_ms": one})
        for name, one in (("calm", calm), ("wild", wild))
    ]
    figure = charts.distributions(both)
    (axes,) = figure.axes
    assert "▸" in [text.get_text() for text in axes.texts]
    assert axes.get_xlim()[1] < 160


def ticks(*values: float, log: bool = False, **ends: float) -> list[str]:
    """What is written at the axis of a chart of these values."""
    figure, axes = charts._figure(3.0, {})
    charts._limit(axes.xaxis, values, log=log, **ends)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    assert ends.get("low", low) <= low < min(values) or ends.get("low") == low
    assert max(values) < high <= ends.get("high", high)
    return [
        text.get_text()
        for text, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
        if low <= at <= high
    ]


def test_ticks_are_round_and_within_the_ends():
    assert ticks(5, 95, low=0.0, high=102.0) == ["0", "20", "40", "60", "80", "100"]
    assert ticks(0.84, 0.93) == ["0.84", "0.86", "0.88", "0.9", "0.92"]
    assert ticks(2.4, 140, log=True) == ["2", "5", "10", "20", "50", "100"]
    assert ticks(1, 900_000, log=True) == ["1", "10", "100", "1 000", "10 000", "100 000", "1e+06"]
    # less than a decade: the steps of a logarithm would be one or none
    assert ticks(30, 34, log=True) == ["28", "30", "32", "34", "36", "38"]
    assert [charts._tick(value, 0) for value in (0.5, 20.0, 1000.0, 2e7)] == ["0.5", "20", "1 000", "2e+07"]


@pytest.mark.parametrize("values", [(5.0,), (0.0,), (5.0, 5.0)])
def test_one_value_alone_still_has_an_axis(values):
    assert ticks(*values)


def test_names_are_cut_where_there_is_no_room():
    assert charts._short("short") == "short"
    assert charts._short("arbex int8, " + 50 * "x").endswith("x…")
    assert len(charts._short(99 * "x")) == charts._LONGEST


def test_curves_are_by_subject_and_mark_the_knee():
    rows = example_rows()
    found = charts.curves(rows)
    assert [name for name, _ in found] == ["onnxruntime", "openvino"]
    for _, own in found:
        assert [one.subject["concurrency"] for one in own] == [1, 2, 4, 8, 16]
    root = drawn(charts.throughput(rows))
    assert len(of_class(root, "ring")) == 2
    assert ["".join(one.itertext()).strip() for one in of_class(root, "label")].count("4 knee") == 2


def test_names_say_what_differs():
    same = {"model": "arbex", "precision": "int8", "backend": "openvino", "batch": 1, "threads": 2}
    rows = [
        row(subject=same),
        row(subject={**same, "precision": "fp32", "threads": 1}),
        row(subject={**same, "scope": "model"}),
    ]
    assert short_names(rows) == ["int8, 2 threads", "fp32, 1 thread", "int8, 2 threads, scope model"]
    assert short_names(rows[:1]) == ["arbex int8 openvino, batch 1, threads 2"]
