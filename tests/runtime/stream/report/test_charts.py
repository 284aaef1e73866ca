"""The figures show what was recorded: where bars begin and end, which are hatched, what their tooltips say."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from seen_people import LABELS, played

from edgefel.report.figures import LIGHT, to_svg
from edgefel.runtime.annotate import PALETTE
from edgefel.runtime.stream.report import charts
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.tracker import assign


def recorded(scripts, seconds, **how) -> StreamRecord:
    record = StreamRecord(LABELS)
    for result in played(scripts, seconds, **how):
        record.add(result)
    record.close()
    return record


def hints(figure) -> list[str]:
    root = ElementTree.fromstring(to_svg(figure, "figure"))
    return [title.text for title in root.iter("title")]


def bars(axes):
    """(row, begin, end, colour, hatched) of each bar."""
    return [
        (
            round(bar.get_y() + bar.get_height() / 2),
            round(bar.get_x(), 6),
            round(bar.get_x() + bar.get_width(), 6),
            to_hex(bar.get_facecolor()[:3]),
            bool(bar.get_hatch()),
        )
        for bar in axes.patches
    ]


def direction(colour: tuple[int, int, int]) -> np.ndarray:
    """Of the hue, of length 1; 0 for a grey."""
    away = np.array(colour, float) - np.mean(colour)
    return away / np.linalg.norm(away) if np.ptp(colour) > 30 else np.zeros(3)


def test_classes_have_the_hues_of_the_overlay():
    """Whoever compares a recording with its report looks for the same colours."""
    labels = [f"class {number}" for number in range(8)]
    found = charts.colours(labels)
    assert len({found[label] for label in labels}) == 8
    chosen = [direction(tuple(int(found[label][at : at + 2], 16) for at in (1, 3, 5))) for label in labels]
    likeness = np.array([[float(direction(there) @ here) for here in chosen] for there in PALETTE])
    # the colours of pages could not be dealt out to the classes so that more of them are alike
    assert assign((-likeness).tolist()) == [(number, number) for number in range(8)]
    assert (np.diagonal(likeness)[1:] > 0.5).all()


def test_the_overview_has_a_row_for_each_person_and_a_line_for_each_cut(record):
    figure = charts.overview(record)
    (axes,) = figure.axes
    hues = charts.colours(LABELS)
    assert bars(axes) == [
        (0, 0.0, 4.0, hues["neutral"], False),
        (0, 4.0, 7.0, hues["happiness"], False),
        (0, 7.0, 10.0, LIGHT["line"], True),
        (1, 1.0, 10.0, hues["anger"], False),
        (2, 10.0, 14.0, hues["happiness"], False),
        (2, 14.0, 20.0, hues["neutral"], False),
    ]
    assert [line.get_xdata()[0] for line in axes.lines] == [10.0]
    assert axes.get_xlim() == pytest.approx((0, 20))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["person 1", "person 2", "person 3"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*LABELS, "unsure"]
    assert legend.get_title().get_text() == "dashed: cuts"
    assert "person 1: happiness, 0:04.0 to 0:07.0" in hints(figure)


def test_nobody_is_no_figure():
    assert charts.overview(recorded([], 2)) is None


def test_many_cuts_are_told_instead_of_drawn():
    record = recorded([[(0, 30, "anger")]], 30, cuts=np.arange(0.3, 30, 0.3).tolist())
    figure = charts.overview(record)
    assert not figure.axes[0].lines
    assert figure.legends[0].get_title().get_text() == f"{record.cut_count} cuts are not drawn"


def test_a_person_over_time(record):
    figure = charts.timeline(record.people[0], (0.3, 0.5))
    upper, right, lower, _ = figure.axes
    rows = [text.get_text() for text in upper.get_yticklabels()]
    assert rows == [*LABELS, "unsure"]
    blocks = [(rows[row], begin, end, hatched) for row, begin, end, _, hatched in bars(upper)]
    assert blocks == [
        ("neutral", 0.0, 4.0, False),
        ("happiness", 4.0, 7.0, False),
        ("unsure", 7.0, 10.0, True),
    ]
    shares = {rows[row]: end for row, _, end, *_ in bars(right)}
    assert shares == {"neutral": 0.4, "happiness": 0.3, "anger": 0.0, "unsure": 0.3}
    intervals = [tuple(line.get_xdata()) for line in right.lines]
    assert intervals == [(share.low, share.high) for share in record.people[0].shares]
    confidence, least_confidence, quality, least_quality = lower.lines
    assert confidence.get_ydata() == pytest.approx(0.6)
    assert quality.get_ydata() == pytest.approx(0.9)
    assert [line.get_ydata()[0] for line in (least_confidence, least_quality)] == [0.3, 0.5]
    assert hints(figure) == [
        "neutral, 0:00.0 to 0:04.0",
        "happiness, 0:04.0 to 0:07.0",
        "unsure, 0:07.0 to 0:10.0",
    ]


def test_the_area_is_the_probability(record):
    upper = charts.timeline(record.people[0]).axes[0]
    (neutral, happiness, anger) = upper.collections
    assert [len(area.get_paths()) for area in (neutral, happiness, anger)] == [1, 1, 1]
    corners = neutral.get_paths()[0].vertices
    heights = {
        round(0.42 - y, 3): x for x, y in corners
    }  # the floor of the first row is at 0.42, upwards is less
    assert set(heights) == {0.0, round(0.84 * 0.8, 3), round(0.84 * 0.1, 3)}
    # neutral is the most probable up to 4 s
    assert max(x for x, y in corners if 0.42 - y > 0.5) == pytest.approx(4.0)


def test_who_was_never_unsure_has_no_row_for_it(record):
    upper = charts.timeline(record.people[1]).axes[0]
    assert [text.get_text() for text in upper.get_yticklabels()] == list(LABELS)


def test_many_segments_are_drawn_as_one_without_tooltips():
    script = [(0.2 * number, 0.2 * number + 0.2, LABELS[number % 3]) for number in range(60)]
    record = recorded([script], 12)
    for figure in (charts.overview(record), charts.timeline(record.people[0])):
        assert hints(figure) == []
        assert len(figure.axes[0].patches) == 0
        assert sum(len(one.get_paths()) for one in figure.axes[0].collections) >= 60


@pytest.mark.parametrize(
    ("began", "ended", "first", "last", "title"),
    [
        (0.0, 3.0, "0:00.0", "0:03.0", "time (min:s)"),
        (0.033, 60.0, "0:10", "1:00", "time (min:s)"),
        (7.0, 95.0, "0:15", "1:30", "time (min:s)"),
        (0.0, 10_800.0, "0:00", "3:00:00", "time (h:min:s)"),
        (5.0, 5.0, "0:05.0", "0:05.1", "time (min:s)"),
    ],
)
def test_ticks_of_time_are_round(began, ended, first, last, title):
    from edgefel.report.figures import new_figure

    axes = new_figure(4, 2).subplots()
    charts._time(axes, began, ended)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert (labels[0], labels[-1]) == (first, last)
    assert len(labels) <= 9
    assert axes.get_xlabel() == title
