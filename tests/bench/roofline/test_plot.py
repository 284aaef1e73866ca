"""The roofline plot of the committed bundle."""

from __future__ import annotations

from counted_graphs import BUNDLE

from edgefel.bench.roofline.bound import project
from edgefel.bench.roofline.devices import DEVICES
from edgefel.bench.roofline.graph import load_graphs
from edgefel.bench.roofline.plot import roofline_figure


def test_the_figure_has_axes_with_units_and_a_dot_for_each_layer():
    found = project(load_graphs(str(BUNDLE)), [DEVICES["thor"]], [1, 8])
    figure = roofline_figure(
        "nano", DEVICES["thor"], {f"batch {n}": one.floor for n, one in enumerate(found)}
    )
    assert "a bound, not a measurement" in figure.get_suptitle()
    for axis, one in zip(figure.axes, found, strict=True):
        assert axis.get_xlabel() == "intensity, operations per byte"
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        points = [tuple(place) for dots in axis.collections for place in dots.get_offsets()]
        layers = [floor for floor in one.floor.layers if floor.layer.intensity > 0]
        assert len(points) == len(layers)
        for intensity, rate in points:
            # under the roof
            assert rate <= 1.0001 * min(
                DEVICES["thor"].matrix["int8"].per_second, intensity * DEVICES["thor"].bandwidth.per_second
            )
    assert figure.axes[0].get_ylabel() == "attainable operations per second"
