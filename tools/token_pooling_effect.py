"""What APViT's dropping of tokens saves, and whether ONNX Runtime drops the same ones as PyTorch.

    edgefel data synth -o faces --count 500 --size 128
    python tools/token_pooling_effect.py choices --data faces -o token-pooling.json
    python tools/token_pooling_effect.py costs -o token-pooling.json
    python tools/token_pooling_effect.py table -o token-pooling.json

The first two write their part of one JSON document, the third prints its table. Costs: the published numbers of
tokens against none dropped, same weights, batch 1 on one thread, in PyTorch and in ONNX Runtime, all four in turn.
Choices: the indices of the tokens that each pooling keeps, image by image. Two scores that differ by less than
rounding may be ordered either way; such a tie, at the border between kept and dropped, is counted apart. Random
weights: nothing here depends on what was learned.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import torch

from edgefel.bench.statistics import ratio
from edgefel.bench.timer import Plan, measure
from edgefel.data.preprocessing import default_preprocessing
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.files.write import write_json
from edgefel.kernels.token_pooling import reference
from edgefel.models import build_model
from edgefel.models.profile import profile
from edgefel.runtime.manifest import INPUT_NAME

TIE = 1e-5  # relative difference of two scores that float32 may order either way


def examples(name: str) -> dict[str, Any]:
    """The model as published, and the same weights with nothing dropped."""
    torch.manual_seed(0)
    published = build_model(name).train()
    size = published.config.input_size
    with torch.no_grad():
        for _ in range(2):
            published(torch.randn(4, 3, size, size))
    rates = published.config.encoder.keep_rates
    whole = build_model(name, encoder={"keep_patches": 196, "keep_rates": (1.0,) * len(rates)})
    whole.load_state_dict(published.state_dict())
    return {"published": published.eval(), "nothing dropped": whole.eval()}


def session(graph: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(serialize(graph), options, providers=["CPUExecutionProvider"])


def with_choices(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with the sorted indices of every pooling as further outputs, in order."""
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    chosen = {node.output[1] for node in made.graph.node if node.op_type == "TopK"}
    names = [node.output[0] for node in made.graph.node if node.op_type == "TopK" and node.input[0] in chosen]
    for name in names:
        made.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None))
    return made, names


def choices(model: Any, image: torch.Tensor) -> list[tuple[np.ndarray, float]]:
    """Of every pooling: the kept indices of one image, and by how much the worst kept beats the best dropped."""
    found: list[tuple[np.ndarray, float]] = []
    choose = reference.best_tokens

    def recorded(scores: torch.Tensor, keep: int) -> torch.Tensor:
        best = choose(scores, keep)
        ordered = scores[0].sort(descending=True).values
        gap = (
            (ordered[keep - 1] - ordered[keep]) / ordered.abs().max()
            if keep < len(ordered)
            else torch.ones(())
        )
        found.append((best[0].numpy(), float(gap)))
        return best

    with mock.patch.object(reference, "best_tokens", recorded), torch.no_grad():
        model(image)
    return found


def compare_choices(model: Any, graph: onnx.ModelProto, images: list[Path]) -> dict[str, Any]:
    """How many images' poolings keep the same tokens in both."""
    prepare = default_preprocessing(model.config.input_size)
    listing, names = with_choices(graph)
    runner = session(listing)
    equal = ties = other = 0
    smallest = float("inf")
    for number, file in enumerate(images, start=1):
        pixels = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        image = prepare.batch([pixels])
        ours = choices(model, torch.from_numpy(image))
        theirs = runner.run(names, {INPUT_NAME: image})
        # a pooling that chose differently changes all after it: the first one that differs is what counts
        for (kept, gap), also in zip(ours, theirs, strict=True):
            smallest = min(smallest, gap)
            if not np.array_equal(kept, also[0]):
                ties, other = ties + (gap < TIE), other + (gap >= TIE)
                break
        else:
            equal += 1
        print(f"\r{number}/{len(images)} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {
        "images": len(images),
        "poolings": len(names),
        "equal": equal,
        "different_at_a_tie": int(ties),
        "different": int(other),
        "tie": TIE,
        "smallest_gap": smallest,
    }


def compare_costs(models: dict[str, Any], graphs: dict[str, onnx.ModelProto], runs: int) -> dict[str, Any]:
    """Multiply-accumulates, bytes and milliseconds of one image, and the ratios."""
    size = models["published"].config.input_size
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    tensor = torch.from_numpy(image)
    calls = {}
    for name, model in models.items():
        calls[f"pytorch, {name}"] = lambda model=model: model(tensor)
        runner = session(graphs[name])
        calls[f"onnxruntime, {name}"] = lambda runner=runner: runner.run(None, {INPUT_NAME: image})
    with torch.inference_mode():
        timings = measure(calls, Plan(min_runs=runs, max_runs=runs, seconds=0))
    macs = {name: profile(model.config).macs for name, model in models.items()}
    result: dict[str, Any] = {
        "macs": macs | {"ratio": macs["nothing dropped"] / macs["published"]},
        "ms_p50": {name: timing.p50 for name, timing in timings.items()},
        "runs": runs,
    }
    for program in ("pytorch", "onnxruntime"):
        slow, fast = (timings[f"{program}, {name}"].durations for name in ("nothing dropped", "published"))
        result[f"{program}_ratio"] = asdict(ratio(slow, fast))
    return result


def markdown(measured: dict[str, Any]) -> str:
    """What it saves, as a table."""
    costs, ms = measured["costs"], measured["costs"]["ms_p50"]
    macs = costs["macs"]
    lines = [
        "| one image | nothing dropped | published | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| multiply-accumulates | {macs['nothing dropped'] / 1e9:.2f} G | {macs['published'] / 1e9:.2f} G | "
        f"{macs['ratio']:.2f} |",
    ]
    for program, name in (("pytorch", "PyTorch"), ("onnxruntime", "ONNX Runtime")):
        slow, fast = ms[f"{program}, nothing dropped"], ms[f"{program}, published"]
        found = costs[f"{program}_ratio"]
        lines.append(
            f"| {name}, one thread | {slow:.0f} ms | {fast:.0f} ms | "
            f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("choices", "costs", "table"))
    parser.add_argument("-o", "--output", type=Path, required=True, help="result file, written or read")
    parser.add_argument("--model", default="apvit", help="apvit or apvit-nano (default: apvit)")
    parser.add_argument("--data", type=Path, help="folder of edgefel data synth, for choices")
    parser.add_argument("--images", type=int, default=500, help="images to compare choices on (default: 500)")
    parser.add_argument("--runs", type=int, default=30, help="timed runs of each (default: 30)")
    chosen = parser.parse_args(arguments)
    document = json.loads(chosen.output.read_text(encoding="utf-8")) if chosen.output.is_file() else {}
    if chosen.part == "table":
        print(markdown(document))
        return 0
    if document.get("model", chosen.model) != chosen.model:
        sys.exit(f"{chosen.output}: is about {document['model']}")
    torch.set_num_threads(1)
    models = examples(chosen.model)
    graphs = {name: export_onnx(model) for name, model in models.items()}
    if chosen.part == "choices":
        if chosen.data is None:
            parser.error("choices needs --data")
        images = sorted((chosen.data / "images").rglob("*.png"))[: chosen.images]
        if len(images) < chosen.images:
            sys.exit(f"{chosen.data}: {len(images)} images, {chosen.images} are wanted; render more")
        found = compare_choices(models["published"], graphs["published"], images)
    else:
        found = compare_costs(models, graphs, chosen.runs)
    document |= {
        "bench": "token-pooling",
        "command": "python tools/token_pooling_effect.py choices --data faces; the same with costs",
        "model": chosen.model,
        "threads": 1,
        "batch": 1,
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "torch")},
        chosen.part: found,
    }
    write_json(chosen.output, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
