"""What each step of graph surgery does to a model: nodes, multiply-accumulates, bytes, latency.

    python -m edgefel.bench.experiments.surgery_effect [--model arbex] [--runs 50] [--no-latency] > surgery.json

Every row compares two graphs of the same network with random weights: outputs first, then ONNX Runtime on one thread,
both graphs in turn (A B A B) at batch 1. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch

from edgefel.bench import timer
from edgefel.bench.command import one_thread, run_bench
from edgefel.bench.networks import onnxruntime_session, random_network
from edgefel.calib.graph import node_macs
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.attention import onnx_attention
from edgefel.export.onnx.inputs import uint8_input
from edgefel.export.onnx.passes import EXACT_PASSES, apply_passes, keep_outputs, spread_prelu
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.models.network import FacialExpressionModel
from edgefel.runtime.manifest import INPUT_NAME, NEEDED_OUTPUTS

TOLERANCE = 1e-4  # of an output's largest value, or of 1


def _input_bytes(graph: onnx.ModelProto) -> int:
    """Bytes of one image as the graph takes it."""
    tensor_type = graph.graph.input[0].type.tensor_type
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).itemsize
    return int(item * math.prod(dim.dim_value for dim in tensor_type.shape.dim[1:]))


COUNTS = {
    "nodes": lambda graph: len(graph.graph.node),
    "macs": lambda graph: sum(node_macs(graph).values()),
    "file_bytes": lambda graph: len(serialize(graph)),
    "input_bytes": _input_bytes,
}


# a graph and one image as it takes it
GraphVariant = tuple[onnx.ModelProto, np.ndarray]


def steps(model: FacialExpressionModel) -> Iterator[tuple[str, GraphVariant, GraphVariant]]:
    """(name, without, with) of every step."""
    size = model.config.input_size
    preprocessing = default_preprocessing(size)
    crop = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    own = Preprocessing(size, size, mean=preprocessing.mean, std=preprocessing.std)
    image = own.batch(list(crop))
    plain = export_onnx(model, passes=())
    attending = export_onnx(model, passes=(), fold_attention=False)
    yield "fold-one-token-attention", (attending, image), (plain, image)
    for name in EXACT_PASSES:
        yield name, (plain, image), (apply_passes(plain, [name])[0], image)
    exact, _ = apply_passes(plain)
    before = exact, image
    yield "all-exact-passes", (plain, image), before
    yield "onnx-attention", before, (onnx_attention(exact)[0], image)
    yield "spread-prelu", before, (spread_prelu(exact)[0], image)
    yield "keep-needed-outputs", before, (keep_outputs(exact, NEEDED_OUTPUTS)[0], image)
    yield "uint8-input", before, (uint8_input(exact, own)[0], crop)
    if size == 224:
        small = export_onnx(model, input_size=112)
        yield "input-112", before, (small, np.ascontiguousarray(image[..., ::2, ::2]))


def measure(name: str, without: GraphVariant, with_step: GraphVariant, runs: int | None) -> dict[str, Any]:
    """One row. runs: of each graph, None to count only. Raises EdgefelError if the graphs disagree."""
    variants = {"without": without, "with": with_step}
    sessions = {key: onnxruntime_session(graph) for key, (graph, _) in variants.items()}
    names = [value.name for value in sessions["with"].get_outputs()]
    before, after = (sessions[key].run(names, {INPUT_NAME: image}) for key, (_, image) in variants.items())
    row: dict[str, Any] = {"step": name, "max_deviation": {}}
    for output, old, new in zip(names, before, after, strict=True):
        largest = row["max_deviation"][output] = float(np.abs(new - old).max())
        if not largest <= TOLERANCE * max(1.0, float(np.abs(old).max())):
            raise EdgefelError(f"{name}: output {output} differs by {largest}; nothing was timed")
    for label, count in COUNTS.items():
        row[label] = {key: count(graph) for key, (graph, _) in variants.items()}
    if runs is not None:
        calls = {
            key: partial(sessions[key].run, None, {INPUT_NAME: image}) for key, (_, image) in variants.items()
        }
        timings = timer.measure(calls, timer.TimingPlan.exactly(runs))
        row["ms_p50"] = {key: timing.p50 for key, timing in timings.items()}
        row["latency_ratio"] = timings["with"].p50 / timings["without"].p50
        row["runs"] = runs
    return row


def surgery_effect(model: str, runs: int, no_latency: bool) -> dict[str, Any]:
    """The document of all rows."""
    rows = []
    for name, without, with_step in steps(random_network(model, noise=0.02)):
        print(name, file=sys.stderr)
        rows.append(measure(name, without, with_step, None if no_latency else runs))
    command = f"python -m edgefel.bench.experiments.surgery_effect --model {model}"
    tools = {"onnx": onnx, "onnxsim": onnxsim, "onnxruntime": onnxruntime, "torch": torch}
    return one_thread("surgery", command, **tools) | {"model": model, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arbex", help="a registered model [%(default)s]")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each graph [%(default)s]")
    parser.add_argument("--no-latency", action="store_true", help="count only")
    sys.exit(run_bench(parser, surgery_effect))
