"""`edgefel export --int8 --auto`: ranks the layers, searches the mix, and records the reason for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgefel.calib.placement import ONNXRUNTIME, PlacementPolicy
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import serialize
from edgefel.export.parity.compare import Parity
from edgefel.export.parity.gate import Gate
from edgefel.export.parity.outputs import Outputs, onnx_outputs
from edgefel.export.precision.graphs import Build
from edgefel.export.precision.search import MixVerdict, SearchResult, search
from edgefel.export.precision.sensitivity import rank_layers
from edgefel.files.write import write_json
from edgefel.progress import SILENT, Progress

DEFAULT_MAX_DROP = 0.5
SEARCH_IMAGES = 512
RANKING_IMAGES = 128  # a layer's KL needs fewer images than the gate's recall, and there are many layers
LAYERS_NAME = "layers.json"
PLOT_NAME = "layers.png"


def find_mix(
    model: onnx.ModelProto,
    scales: Mapping[str, np.float32],
    build: Build,
    gate: Gate,
    preprocessing: Preprocessing,
    max_drop: float = DEFAULT_MAX_DROP,
    progress: Progress = SILENT,
    policy: PlacementPolicy = ONNXRUNTIME,
) -> SearchResult:
    """The layers that stay in float, found on the gate's images.

    model: in float, as the file that `policy` quantizes starts from; layers are ranked in that form. gate: on
    labelled images that neither calibration nor the final comparison sees, with silent progress. A mix passes when
    every graph that `build` makes of it is within the gate's limits and its macro recall (the mean of the
    classes' recall) is at most `max_drop` points below PyTorch's.

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

    ranking = rank_layers(model, policy, scales, run, few.targets, progress)
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
    from edgefel.export.precision.mixed_plot import search_figure

    write_json(folder / LAYERS_NAME, {**entry, **result.to_dict()})
    search_figure(result).savefig(folder / PLOT_NAME, dpi=120)
