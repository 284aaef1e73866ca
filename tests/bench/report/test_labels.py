"""Labels of a chart."""

from __future__ import annotations

from matplotlib.transforms import Bbox

from edgefel.bench.report.labels import Spot, place_labels
from edgefel.report.figures import new_figure


def axes_of(width: float = 400, height: float = 300):
    """Axes whose data are points, as large as their figure."""
    figure = new_figure(width / 72, height / 72)
    figure.set_dpi(72)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return axes


def test_labels_cover_neither_marks_nor_each_other():
    spots = [Spot(200 + 9 * (index % 4), 150 + 9 * (index // 4), 5, f"model {index}") for index in range(12)]
    axes = axes_of()
    placed = [text.get_window_extent() for text in place_labels(axes, spots, fontsize=8)]
    marks = [Bbox.from_extents(s.x - 5, s.y - 5, s.x + 5, s.y + 5) for s in spots]
    assert 2 <= len(placed) < len(spots)  # there is no room for all of them
    assert axes.texts[0].get_text() == "model 0"
    assert len(axes.texts) == len(placed)
    for index, box in enumerate(placed):
        assert 0 <= box.x0 <= box.x1 <= 400
        assert 0 <= box.y0 <= box.y1 <= 300
        assert not box.count_overlaps([*placed[:index], *marks])


def test_labels_keep_clear_of_lines_where_they_can():
    def place(drawn: bool, **size: float):
        axes = axes_of(**size)
        (line,) = axes.plot((105, 400), (100, 100))
        (text,) = place_labels(axes, [Spot(100, 100, 5, "here")], line if drawn else None, fontsize=8)
        path = line.get_transform().transform_path(line.get_path())
        return text.get_position(), path.intersects_bbox(text.get_window_extent(), filled=False)

    assert place(False)[1]
    assert not place(True)[1]


def test_a_crossed_label_is_better_than_none():
    axes = axes_of(height=12)
    (line,) = axes.plot((0, 400), (6, 6))
    (text,) = place_labels(axes, [Spot(100, 6, 5, "here")], line, fontsize=8)
    assert text.get_ha() == "left"


def test_a_spot_without_a_label_has_none():
    axes = axes_of()
    assert place_labels(axes, [Spot(100, 100, 5, "")], fontsize=8) == []
    assert not axes.texts
