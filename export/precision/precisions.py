"""From the FP32 graph to the graph of every precision, and how each was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefel.calib.cache import cached_scales
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, Placement, PlacementPolicy, place
from edgefel.calib.quantize import quantize
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.thresholds import CalibrationMethod
from edgefel.export.onnx.attention import onnx_attention
from edgefel.export.onnx.passes import spread_batch_norms, spread_prelu
from edgefel.export.onnx.trace import check_graph
from edgefel.export.precision.formats import FORMATS, place_format, write_format
from edgefel.export.precision.half import float32_nodes, to_half
from edgefel.progress import SILENT, Progress
from edgefel.text import counted

POLICIES = {"int8": ONNXRUNTIME, "int8+fp16": TENSORRT}
# layers kept in float, and why -> the graphs of the INT8 precisions
Build = Callable[[Mapping[str, str]], dict[str, onnx.ModelProto]]


@dataclass(frozen=True)
class PrecisionGraph:
    """A finished graph. builder: the manifest's entry on how it was made. warnings: for the user."""

    model: onnx.ModelProto
    builder: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranges:
    """INT8 scale per activation; entry: the manifest's entry on the calibration.

    ends: of the asymmetric ranges; without them all files are symmetric.
    """

    scales: Mapping[str, np.float32]
    entry: dict[str, Any]
    warnings: tuple[str, ...] = ()
    ends: Mapping[str, tuple[float, float]] | None = None


def make_graphs(
    graph: onnx.ModelProto,
    precisions: Sequence[str],
    *,
    anchors: npt.NDArray[np.float32] | None,
    calibrate: Callable[..., Ranges],
    choose: Callable[[onnx.ModelProto, Sequence[str], Build], Mapping[str, str]] | None = None,
    attended: onnx.ModelProto | None = None,
) -> dict[str, PrecisionGraph]:
    """The graphs of the precisions, checked, in their order.

    graph: FP32, not changed. anchors: of the head, which stay FP32 in FP16 graphs. calibrate: graph, activations
    -> their ranges; called once for INT8, with what all files need, and once for FP8 with "minmax" as a third
    argument, which are FP8's ranges whatever INT8's are. choose: which layers stay in float although they could be
    INT8, and why; given the float graph, the layers that could be, and how the INT8 graphs are made. attended: the
    graph with attention as one operator, from which all but the INT8 graph for ONNX Runtime are then made. That one
    gets the operator after its Q/DQ nodes, which keep away from attention: version 1.31 cannot load those that would be
    placed around the operator.

    FP16 graphs are meant for TensorRT, the others for ONNX Runtime, whose form of PReLU they have; in INT8 of batch
    norms, too.
    """
    spread, _ = spread_prelu(graph)
    others = graph if attended is None else attended
    spread_others = spread
    if attended is not None and "fp32" in precisions:
        spread_others, _ = spread_prelu(attended)
    forms = {"fp32": spread_others, "int8": spread_batch_norms(spread)[0] if "int8" in precisions else spread}
    bases = {name: forms.get(name, others) for name in precisions}
    made = {name: PrecisionGraph(bases[name], {}) for name in precisions}
    quantized = [name for name in precisions if name in POLICIES]
    if quantized:
        placements = {name: place(bases[name], POLICIES[name]) for name in quantized}
        # both forms have the same layers and activations under the same names
        layers = placements[quantized[0]].nodes
        needed = dict.fromkeys(t for placement in placements.values() for t in placement.activations)
        ranges = calibrate(spread, list(needed))

        def build(keep_float: Mapping[str, str]) -> dict[str, PrecisionGraph]:
            placed = placements
            if keep_float:
                placed = {name: place(bases[name], POLICIES[name], keep_float) for name in quantized}
            return {name: _quantized(bases[name], placed[name], ranges, anchors) for name in quantized}

        def models(keep_float: Mapping[str, str]) -> dict[str, onnx.ModelProto]:
            return {name: one.model for name, one in build(keep_float).items()}

        made |= build({} if choose is None else choose(spread, layers, models))
        # what calibration warns of is said once, not for every precision that it serves
        first = made[quantized[0]]
        made[quantized[0]] = dataclasses.replace(first, warnings=(*ranges.warnings, *first.warnings))
    if attended is not None and "int8" in made:
        made["int8"] = dataclasses.replace(made["int8"], model=onnx_attention(made["int8"].model)[0])
    if "fp16" in made:
        made["fp16"] = _half(made["fp16"], anchors)
    for name in FORMATS:
        if name in made:
            made[name] = _half(_formatted(bases[name], name, spread, calibrate), anchors)
    for one in made.values():
        check_graph(one.model)
    return made


def _quantized(
    base: onnx.ModelProto, placement: Placement, ranges: Ranges, anchors: npt.NDArray[np.float32] | None
) -> PrecisionGraph:
    entry = {
        "policy": placement.policy.name,
        "activations": _activations(placement.policy, ranges),
        "int8_nodes": len(placement.nodes),
        "int8_residuals": len(placement.residuals),
        "float_nodes": dict(placement.kept_float),
        "calibration": ranges.entry,
    }
    one = PrecisionGraph(quantize(base, placement, ranges.scales, ranges.ends), entry)
    return _half(one, anchors) if placement.policy is TENSORRT else one


def _activations(policy: PlacementPolicy, ranges: Ranges) -> str:
    if not policy.unsigned:
        return "symmetric int8"
    return "symmetric uint8" if ranges.ends is None else "asymmetric uint8"


def _formatted(
    base: onnx.ModelProto, precision: str, spread: onnx.ModelProto, calibrate: Callable[..., Ranges]
) -> PrecisionGraph:
    placement = place_format(base, precision)
    ranges = Ranges({}, {})
    if precision == "fp8":
        ranges = calibrate(spread, list(placement.activations), "minmax")
    entry = {f"{precision}_nodes": len(placement.nodes), "float_nodes": dict(placement.kept_float)}
    if ranges.entry:
        entry["calibration"] = ranges.entry
    return PrecisionGraph(write_format(base, placement, ranges.scales), entry, ranges.warnings)


def calibrate_ranges(
    graph: onnx.ModelProto,
    activations: Sequence[str],
    reader: CalibrationReader,
    method: CalibrationMethod,
    source: Mapping[str, Any],
    classes: int,
    set_key: str | None,
    progress: Progress = SILENT,
) -> Ranges:
    """Ranges of the activations over the reader's images, or from the cache where these were taken before.

    source: the manifest's entry on the images. set_key: of the calibration set that the images are; None
    caches nothing. Raises EdgefelError if fewer images than `classes` can be read, or an activation is not
    finite or constant.
    """
    warnings: list[str] = []
    progress.start("calibrate INT8", len(reader))
    scales, ends, cache = cached_scales(
        graph, activations, reader, method, set_key, warn=warnings.append, advance=progress.advance
    )
    entry = {
        **source,
        "used": reader.require(classes),
        "skipped": [path.name for path in reader.skipped],
        "method": method,
        "ranges": cache,
    }
    if reader.skipped:
        named = ", ".join(path.name for path in reader.skipped[:3])
        warnings.append(f"{len(reader.skipped)} unreadable calibration images skipped: {named}")
    return Ranges(scales, entry, tuple(warnings), ends)


def _half(made: PrecisionGraph, anchors: npt.NDArray[np.float32] | None) -> PrecisionGraph:
    kept = float32_nodes(made.model, anchors)
    half, clamped = to_half(made.model, kept)
    warnings = made.warnings
    if clamped:
        named = ", ".join(clamped[:3])
        warnings += (
            f"values beyond the range of FP16 were clamped in {named} ({counted(len(clamped), 'tensor')})",
        )
    facts = {"float32_nodes": len(kept), "clamped": list(clamped)}
    return PrecisionGraph(half, {**made.builder, **facts}, warnings)
