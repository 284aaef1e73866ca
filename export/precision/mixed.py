"""`edgefel export --int8 --auto`: ranks the layers, searches the mix, and records the reason for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import serialize
from edgefel.export.parity.compare import Outputs, Parity
from edgefel.export.parity.gate import Gate, onnx_outputs
from edgefel.export.precision.precisions import Build
from edgefel.export.precision.search import MixVerdict, SearchResult, search
from edgefel.export.precision.sensitivity import rank_layers
from edgefel.files.write import write_json
from edgefel.progress import SILENT, Progress
from edgefel.report.figures import new_figure
from edgefel.text import counted

DEFAULT_MAX_DROP = 0.5
SEARCH_IMAGES = 512
RANKING_IMAGES = 128  # a layer's KL needs fewer images than the gate's recall, and there are many layers
LAYERS_NAME = "layers.json"
PLOT_NAME = "layers.png"
SHOWN_LAYERS = 25
_INT8, _FLOAT = "#4477aa", "#cc6677"


def find_mix(
    model: onnx.ModelProto,
    layers: Sequence[str],
    build: Build,
    gate: Gate,
    preprocessing: Preprocessing,
    max_drop: float = DEFAULT_MAX_DROP,
    progress: Progress = SILENT,
) -> SearchResult:
    """The layers that stay in float, found on the gate's images.

    model: in float. layers: of it, those that can be INT8; they are ranked and judged in the graphs that `build`
    makes, which are the ones that are written. gate: on labelled images that neither calibration nor the final
    comparison sees, with silent progress. A mix passes when every graph that `build` makes of it is within the gate's
    limits and its macro recall (the mean of the classes' recall) is at most `max_drop` points below PyTorch's.

    Raises EdgefelError if the images have no labels to go by, or no mix passes.
    """
    if gate.images.targets is None:
        raise EdgefelError("--auto: the search goes by recall; give labelled images with --data")
    few = gate.images.spread(RANKING_IMAGES)

    def run(candidate: onnx.ModelProto) -> Outputs:
        return onnx_outputs(serialize(candidate), few.batches(preprocessing), threads=gate.threads)

    def judge(kept: frozenset[str]) -> MixVerdict:
        graphs = build(dict.fromkeys(kept, "kept in float by the search"))
        return _verdict(
            {name: gate.judge(serialize(graph), name, preprocessing) for name, graph in graphs.items()},
            max_drop,
        )

    ranking = rank_layers(model, layers, build, run, few.targets, progress)
    return search(ranking, judge, progress)


def _verdict(parities: Mapping[str, Parity], max_drop: float) -> MixVerdict:
    reasons: list[str] = []
    losses: list[float] = []
    for name, parity in parities.items():
        if parity.verdict == "fail":
            reasons += [f"{name}: {reason}" for reason in parity.reasons]
        if parity.labels is None:
            continue
        changes = [entry.change for entry in parity.labels.classes if entry.change is not None]
        losses.append(max(0.0, -min(changes)))
        drop = -sum(changes) / len(changes)
        if drop > max_drop:
            reasons.append(f"{name}: macro recall falls by {drop:.2f} points, limit {max_drop:g}")
    return MixVerdict(not reasons, tuple(reasons), max(losses, default=None))


def mix_entry(result: SearchResult, max_drop: float, images: int) -> dict[str, Any]:
    """The manifest's entry on the search; `layers.json` has the details."""
    return {
        "max_drop": max_drop,
        "images": images,
        "int8_share_of_macs": result.int8_share,
        "kept_float": len(result.keep_float),
        "details": LAYERS_NAME,
    }


def write_search(folder: Path, result: SearchResult, entry: Mapping[str, Any]) -> None:
    """Writes layers.json and layers.png into `folder`."""
    write_json(folder / LAYERS_NAME, {**entry, **result.to_dict()})
    search_figure(result).savefig(folder / PLOT_NAME, dpi=120)


def search_figure(result: SearchResult) -> Any:
    """A matplotlib Figure of two panels: what the costliest layers cost alone, and the mixes that were tried."""
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
