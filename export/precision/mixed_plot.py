"""An image of a mixed-precision search: which layers hurt, and which mixes were tried."""

from __future__ import annotations

from typing import Any

from edgefel.export.precision.search import SearchResult
from edgefel.figures import new_figure
from edgefel.text import counted

SHOWN_LAYERS = 25
_INT8, _FLOAT = "#4477aa", "#cc6677"


def search_figure(result: SearchResult) -> Any:
    """A matplotlib Figure of two panels: what the costliest layers cost alone, and the mixes that were tried.

    Drawn on a canvas of its own: no window, no global state, and no display is needed.
    """
    figure = new_figure(13, 7)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _layers(left, result)
    _trials(right, result)
    kept = len(result.keep_float)
    figure.suptitle(
        f"{result.int8_share:.1%} of the layers' multiply-accumulates in INT8, "
        f"{kept} of {counted(len(result.decisions), 'layer')} kept in float"
    )
    return figure


def _layers(axis: Any, result: SearchResult) -> None:
    shown = result.decisions[:SHOWN_LAYERS]
    places = range(len(shown))
    costs = [max(decision.cost.kl, 1e-12) for decision in shown]
    axis.barh(places, costs, color=[_INT8 if decision.int8 else _FLOAT for decision in shown])
    labels = [
        f"{decision.cost.node.removeprefix('encoder.')}  ({decision.cost.macs / 1e6:.1f} MMAC)"
        for decision in shown
    ]
    axis.set_yticks(places, labels, fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("KL divergence of the probabilities with this layer alone in INT8, nats")
    axis.set_title(f"the {len(shown)} costliest of {counted(len(result.decisions), 'layer')}", fontsize=10)
    for colour, name in ((_INT8, "INT8"), (_FLOAT, "kept in float")):
        axis.barh([0], [0], color=colour, label=name)
    axis.legend(loc="lower right")


def _trials(axis: Any, result: SearchResult) -> None:
    for passes, colour, marker in ((True, "#228833", "o"), (False, "#ee6677", "x")):
        trials = [
            (number, trial)
            for number, trial in enumerate(result.trials, start=1)
            if trial.verdict.passes == passes and trial.verdict.recall_loss is not None
        ]
        axis.scatter(
            [100 * trial.int8_share for _, trial in trials],
            [trial.verdict.recall_loss for _, trial in trials],
            c=colour,
            marker=marker,
            label="passes the gate" if passes else "fails",
        )
        for number, trial in trials:
            position = (100 * trial.int8_share, trial.verdict.recall_loss)
            axis.annotate(str(number), position, fontsize=7, xytext=(3, 3), textcoords="offset points")
    axis.set_xlabel("multiply-accumulates in INT8, %")
    axis.set_ylabel("recall lost by the class that loses most, points")
    axis.set_title("the mixes tried, in order", fontsize=10)
    axis.legend()
