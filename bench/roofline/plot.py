"""The roofline plot: attainable operations per second over operations per byte."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefel.bench.roofline.bound import NetworkFloor
from edgefel.bench.roofline.devices import DeviceSpec
from edgefel.report.figures import new_figure

_COLOURS = {"fp32": "#cc6677", "fp16": "#4477aa", "int8": "#228833"}
_LARGEST_DOT = 5000.0  # square points, of a layer that were the whole floor


def roofline_figure(title: str, device: DeviceSpec, floors: dict[str, NetworkFloor]) -> Any:
    """A panel for each name in `floors`: a dot is a layer, its area the share of the bound, its colour the type."""
    figure = new_figure(6.2 * len(floors), 5.8)
    axes = figure.subplots(1, len(floors), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (name, floor) in zip(axes, floors.items(), strict=True):
        _panel(axis, name, device, floor)
    axes[0].set_ylabel("attainable operations per second")
    figure.suptitle(f"{title} {device.title} ({device.mode})\na bound, not a measurement", fontsize=11)
    return figure


def _panel(axis: Any, name: str, device: DeviceSpec, floor: NetworkFloor) -> None:
    intensities = np.geomspace(0.1, 1e4, 200)
    for kind in _COLOURS:
        if not any(kind in found.layer.matrix for found in floor.layers):
            continue
        ceiling = device.matrix[kind].per_second
        reached = np.minimum(ceiling, intensities * device.bandwidth.per_second)
        axis.plot(intensities, reached, color=_COLOURS[kind])
        axis.annotate(
            f"{kind.upper()} {ceiling / 1e12:.3g} T/s", (1e4, ceiling), fontsize=8, ha="right", va="bottom"
        )
    for kind in _COLOURS:
        layers = [
            found for found in floor.layers if found.layer.precision == kind and found.layer.intensity > 0
        ]
        if not layers:
            continue
        axis.scatter(
            [found.layer.intensity for found in layers],
            [found.layer.operations / found.seconds for found in layers],
            s=[max(6.0, _LARGEST_DOT * 1e3 * found.seconds / floor.floor_ms) for found in layers],
            color=_COLOURS[kind],
            alpha=0.5,
            edgecolors="black",
            linewidths=0.5,
            zorder=2,
            label=f"{kind.upper()} layer",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("intensity, operations per byte")
    axis.set_title(
        f"{name}: at least {floor.floor_ms:.3g} ms, {floor.share('memory'):.0%} of it bound by memory",
        fontsize=9,
    )
    axis.grid(True, which="major", alpha=0.3)
    legend = axis.legend(loc="lower right", fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([40])
