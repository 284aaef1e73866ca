"""What each step of graph surgery does to a model: nodes, multiply-accumulates, bytes, latency.

    python tools/surgery_effect.py [--model arbex] [--runs 50] [--no-latency] > surgery.json

Prints one JSON document. Every row compares two graphs of the same randomly initialised model: outputs first, then
ONNX Runtime on one thread, both graphs in turn (A B A B) at batch 1. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

from edgefel.bench.timer import Plan
from edgefel.bench.timer import measure as time_in_turn
from edgefel.calib.macs import node_macs
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.export.onnx.attention import onnx_attention
from edgefel.export.onnx.passes import EXACT_PASSES, apply_passes, keep_outputs, spread_prelu
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.export.onnx.uint8_input import uint8_input
from edgefel.models import build_model
from edgefel.models.network import FacialExpressionModel
from edgefel.runtime.manifest import INPUT_NAME, NEEDED_OUTPUTS

TOLERANCE = 1e-4  # of an output's largest value, or of 1


@dataclass(frozen=True)
class Variant:
    """A graph and one image as it takes it."""

    graph: onnx.ModelProto
    image: np.ndarray


def example_model(name: str) -> FacialExpressionModel:
    """Random weights, biases and batch-norm statistics, so that nothing folds because it is 0 or 1."""
    torch.manual_seed(0)
    model = build_model(name).train()
    size = model.config.input_size
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for _ in range(2):
            model(torch.randn(4, 3, size, size))
    return model.eval()


def steps(model: FacialExpressionModel) -> Iterator[tuple[str, Variant, Variant]]:
    """(name, without, with) of every step."""
    size = model.config.input_size
    preprocessing = default_preprocessing(size)
    crop = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    own = Preprocessing(size, size, mean=preprocessing.mean, std=preprocessing.std)
    image = own.batch(list(crop))
    plain = export_onnx(model, passes=())
    yield (
        "fold-one-token-attention",
        Variant(export_onnx(model, passes=(), fold_attention=False), image),
        Variant(plain, image),
    )
    for name in EXACT_PASSES:
        yield name, Variant(plain, image), Variant(apply_passes(plain, [name])[0], image)
    exact, _ = apply_passes(plain)
    yield "all-exact-passes", Variant(plain, image), Variant(exact, image)
    yield "onnx-attention", Variant(exact, image), Variant(onnx_attention(exact)[0], image)
    yield "spread-prelu", Variant(exact, image), Variant(spread_prelu(exact)[0], image)
    kept, _ = keep_outputs(exact, NEEDED_OUTPUTS)
    yield "keep-needed-outputs", Variant(exact, image), Variant(kept, image)
    packed, _ = uint8_input(exact, own)
    yield "uint8-input", Variant(exact, image), Variant(packed, crop)
    if size == 224:
        small = export_onnx(model, input_size=112)
        yield "input-112", Variant(exact, image), Variant(small, np.ascontiguousarray(image[..., ::2, ::2]))


def measure(name: str, without: Variant, with_step: Variant, runs: int | None) -> dict[str, Any]:
    """One row. Raises SystemExit if the two graphs do not agree: then nothing is timed."""
    variants = {"without": without, "with": with_step}
    sessions = {key: _session(variant.graph) for key, variant in variants.items()}
    outputs = {key: _outputs(sessions[key], variant) for key, variant in variants.items()}
    deviation = {
        output: float(np.abs(values - outputs["without"][output]).max())
        for output, values in outputs["with"].items()
    }
    for output, largest in deviation.items():
        if not largest <= TOLERANCE * max(1.0, float(np.abs(outputs["without"][output]).max())):
            sys.exit(f"{name}: output {output} differs by {largest}; nothing was timed")
    row: dict[str, Any] = {"step": name, "max_deviation": deviation}
    for label, function in (
        ("nodes", lambda graph: len(graph.node)),
        ("macs", lambda graph: sum(node_macs(graph).values())),
        ("file_bytes", lambda graph: len(serialize(graph))),
        ("input_bytes", _input_bytes),
    ):
        row[label] = {
            key: function(variant.graph.graph if label == "nodes" else variant.graph)
            for key, variant in variants.items()
        }
    if runs is not None:
        timings = time_in_turn(
            {key: _call(sessions[key], variant) for key, variant in variants.items()},
            Plan(min_runs=runs, max_runs=runs, seconds=0),
        )
        row["ms_p50"] = {key: timing.p50 for key, timing in timings.items()}
        row["latency_ratio"] = timings["with"].p50 / timings["without"].p50
        row["runs"] = runs
    return row


def _input_bytes(graph: onnx.ModelProto) -> int:
    """Of one image as the graph takes it."""
    tensor_type = graph.graph.input[0].type.tensor_type
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).itemsize
    return int(item * math.prod(dim.dim_value for dim in tensor_type.shape.dim[1:]))


def _session(graph: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(serialize(graph), options, providers=["CPUExecutionProvider"])


def _outputs(session: ort.InferenceSession, variant: Variant) -> dict[str, np.ndarray]:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT_NAME: variant.image}), strict=True))


def _call(session: ort.InferenceSession, variant: Variant) -> Any:
    return lambda: session.run(None, {INPUT_NAME: variant.image})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="arbex", help="a registered model (default: arbex)")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each graph (default: 50)")
    parser.add_argument("--no-latency", action="store_true", help="count only")
    chosen = parser.parse_args(arguments)
    rows = []
    for name, without, with_step in steps(example_model(chosen.model)):
        print(name, file=sys.stderr)
        rows.append(measure(name, without, with_step, None if chosen.no_latency else chosen.runs))
    versions = {
        name: importlib.metadata.version(name) for name in ("onnx", "onnxsim", "onnxruntime", "torch")
    }
    document = {
        "bench": "surgery",
        "command": f"python tools/surgery_effect.py --model {chosen.model}",
        "model": chosen.model,
        "threads": 1,
        "batch": 1,
        "machine": platform.machine(),
        "versions": versions,
        "rows": rows,
    }
    print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
