"""What APViT's dropping of tokens saves, and whether ONNX Runtime drops the same ones as PyTorch.

    edgefel data synth -o faces --count 500 --size 128
    python -m edgefel.bench.experiments.token_pooling_effect --data faces > docs/results/token-pooling.json

Costs: the published numbers of tokens against none dropped, same weights, batch 1 on one thread, in PyTorch and in ONNX
Runtime, all four in turn. Choices: the indices of the tokens that each pooling keeps, image by image; without --data
they are left out. Two scores that differ by less than rounding may be ordered either way; such a tie, at the border
between kept and dropped, is counted apart. Random weights: nothing here depends on what was learned.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch

from edgefel.bench.command import one_thread, run_bench
from edgefel.bench.networks import onnxruntime_session, random_network
from edgefel.bench.statistics import ratio
from edgefel.bench.timer import TimingPlan, measure
from edgefel.data.images import read_rgb
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import export_onnx
from edgefel.export.parity.gate import torch_threads
from edgefel.kernels.token_pooling import reference
from edgefel.models import build_model
from edgefel.models.profile import profile
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.text import counted

TIE = 1e-5  # relative difference of two scores that float32 may order either way
PUBLISHED, WHOLE = "published", "nothing dropped"


def examples(name: str) -> dict[str, Any]:
    """The model as published, and the same weights with nothing dropped."""
    published: Any = random_network(name)
    rates = published.config.encoder.keep_rates
    whole = build_model(name, encoder={"keep_patches": 196, "keep_rates": (1.0,) * len(rates)})
    whole.load_state_dict(published.state_dict())
    return {PUBLISHED: published, WHOLE: whole.eval()}


def with_choices(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with the sorted indices of every pooling as further outputs, in order."""
    made = copy.deepcopy(graph)
    sorts = [node for node in made.graph.node if node.op_type == "TopK"]
    chosen = {node.output[1] for node in sorts}
    names = [node.output[0] for node in sorts if node.input[0] in chosen]
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
        gap = (ordered[keep - 1] - ordered[keep]) / ordered.abs().max() if keep < len(ordered) else 1.0
        found.append((best[0].numpy(), float(gap)))
        return best

    with mock.patch.object(reference, "best_tokens", recorded), torch.no_grad():
        model(image)
    return found


def compare_choices(model: Any, graph: onnx.ModelProto, images: Sequence[Path]) -> dict[str, Any]:
    """How many images' poolings keep the same tokens in both."""
    prepare = default_preprocessing(model.config.input_size)
    listing, names = with_choices(graph)
    session = onnxruntime_session(listing)
    counts = dict.fromkeys(("equal", "different_at_a_tie", "different"), 0)
    smallest = float("inf")
    for number, file in enumerate(images, start=1):
        image = prepare.batch([read_rgb(file)])
        ours = choices(model, torch.from_numpy(image))
        theirs = session.run(names, {INPUT_NAME: image})
        # a pooling that chose differently changes all after it: the first one that differs is what counts
        for (kept, gap), also in zip(ours, theirs, strict=True):
            smallest = min(smallest, gap)
            if not np.array_equal(kept, also[0]):
                counts["different_at_a_tie" if gap < TIE else "different"] += 1
                break
        else:
            counts["equal"] += 1
        print(f"\r{number}/{counted(len(images), 'image')}", end="", file=sys.stderr)
    print(file=sys.stderr)
    found = {"images": len(images), "poolings": len(names)}
    return found | counts | {"tie": TIE, "smallest_gap": smallest}


def compare_costs(models: dict[str, Any], graphs: dict[str, onnx.ModelProto], runs: int) -> dict[str, Any]:
    """Multiply-accumulates, bytes and milliseconds of one image, and the ratios."""
    size = models[PUBLISHED].config.input_size
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    tensor = torch.from_numpy(image)
    calls: dict[str, Any] = {}
    for name, model in models.items():
        calls[f"pytorch, {name}"] = partial(model, tensor)
        session = onnxruntime_session(graphs[name])
        calls[f"onnxruntime, {name}"] = partial(session.run, None, {INPUT_NAME: image})
    with torch.inference_mode():
        timings = measure(calls, TimingPlan.exactly(runs))
    macs = {name: profile(model.config).macs for name, model in models.items()}
    result: dict[str, Any] = {
        "macs": macs | {"ratio": macs[WHOLE] / macs[PUBLISHED]},
        "ms_p50": {name: timing.p50 for name, timing in timings.items()},
        "runs": runs,
    }
    for program in ("pytorch", "onnxruntime"):
        slow, fast = (timings[f"{program}, {name}"].durations for name in (WHOLE, PUBLISHED))
        result[f"{program}_ratio"] = asdict(ratio(slow, fast))
    return result


def document(model: str, data: Path | None, images: int, runs: int) -> dict[str, Any]:
    """Costs, and choices where there are images."""
    files = [] if data is None else sorted((data / "images").rglob("*.png"))[:images]
    if data is not None and len(files) < images:
        raise EdgefelError(f"{data}: {counted(len(files), 'image')}, {images} are wanted; render more")
    with torch_threads(1):
        models = examples(model)
        graphs = {name: export_onnx(network) for name, network in models.items()}
        found = {}
        if files:
            found["choices"] = compare_choices(models[PUBLISHED], graphs[PUBLISHED], files)
        found["costs"] = compare_costs(models, graphs, runs)
    command = "python -m edgefel.bench.experiments.token_pooling_effect"
    command += "" if data is None else f" --data {data}"
    head = one_thread("token-pooling", command, onnx=onnx, onnxruntime=onnxruntime, torch=torch)
    return head | {"model": model, **found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="apvit", help="apvit or apvit-nano [%(default)s]")
    parser.add_argument("--data", type=Path, help="folder of edgefel data synth, for the choices")
    parser.add_argument("--images", type=int, default=500, help="to compare choices on [%(default)s]")
    parser.add_argument("--runs", type=int, default=30, help="timed runs of each [%(default)s]")
    sys.exit(run_bench(parser, document))
