"""Cost of quantizing each layer alone: the ranking that the mixed-precision search uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefel.calib.graph import node_macs
from edgefel.export.parity.compare import Outputs, sqnr_db
from edgefel.export.parity.label_metrics import kl_divergence, recall_change
from edgefel.export.precision.precisions import Build
from edgefel.progress import SILENT, Progress

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LayerCost:
    """What happens to the network's outputs when this layer alone is INT8, in the file where that costs most.

    precision: of that file. kl: mean KL divergence of the probabilities from those in float, in nats. sqnr_db: of the
    logits. agreement: share of images with the same label. recall_loss: points (hundredths) that the class which loses
    most loses, 0 if none does; None without labels. macs: multiply-accumulates for one image.
    """

    node: str
    op_type: str
    macs: int
    kl: float
    sqnr_db: float
    agreement: float
    recall_loss: float | None
    precision: str


def rank_layers(
    model: onnx.ModelProto,
    layers: Sequence[str],
    build: Build,
    run: Callable[[onnx.ModelProto], Outputs],
    targets: IntArray | None = None,
    progress: Progress = SILENT,
) -> tuple[LayerCost, ...]:
    """Quantizes one of `layers` after the other, each alone, and sorts them by what that costs, the costliest first.

    model: in float, what the others are compared with. build: the layers kept in float -> the graph of each INT8
    file, as exported: an order that other ranges or another placement give is not that of these files. Where there
    are several, a layer's cost is that in the file where it costs most, for all of them have to pass the gate. run:
    model -> outputs on always the same images. targets [N]: the images' true classes. Costs are sorted by KL, which
    moves before any label does.
    """
    macs = node_macs(model)
    types = {node.name: node.op_type for node in model.graph.node}
    progress.start("rank layers", len(layers) + 1)
    reference = run(model)
    progress.advance()
    costs = []
    for name in layers:
        graphs = build({other: "ranked alone" for other in layers if other != name})
        files = [
            _cost(name, types[name], macs[name], reference, run(graph), targets, precision)
            for precision, graph in graphs.items()
        ]
        costs.append(min(files, key=_order))
        progress.advance()
    return tuple(sorted(costs, key=_order))


def _order(cost: LayerCost) -> tuple[float, float, str]:
    return -cost.kl, cost.sqnr_db, cost.node


def _cost(
    name: str,
    op_type: str,
    macs: int,
    reference: Outputs,
    actual: Outputs,
    targets: IntArray | None,
    precision: str,
) -> LayerCost:
    before, after = reference["probabilities"], actual["probabilities"]
    if not all(np.isfinite(actual[output]).all() for output in ("logits", "probabilities")):
        return LayerCost(name, op_type, macs, float("inf"), float("-inf"), 0.0, 100.0, precision)
    loss = None
    if targets is not None:
        rows = recall_change(before, after, targets, [""] * before.shape[1], resamples=1)
        loss = max(0.0, -min(row.change for row in rows if row.change is not None))
    return LayerCost(
        node=name,
        op_type=op_type,
        macs=macs,
        kl=float(kl_divergence(before, after).mean()),
        sqnr_db=sqnr_db(reference["logits"], actual["logits"]),
        agreement=float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        recall_loss=loss,
        precision=precision,
    )
