"""What training for INT8 brings: INT8 files of a network before and after `edgefel train --qat`, over several seeds.

    python -m edgefel.bench.experiments.qat runs/fer-plus-nano --data FER+ --votes fer2013new.csv --name "FER+" \\
        --into docs/results/qat.json

Every seed draws its own calibration images and batches. Both files of a seed have the same ranges (unless they learn),
so that they differ by what was trained. All files run in ONNX Runtime on the same held-out images and are compared with
the FP32 network before. `--into` adds the result to those of other data sets in the file.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from edgefel.bench.command import run_bench, versions
from edgefel.bench.experiments.calibration.intervals import FileOutcome, HeldOut, Interval, TwoLevelBootstrap
from edgefel.calib.images import ComparedImages, choose_images, load_images
from edgefel.calib.placement import place
from edgefel.calib.quantize import quantize as quantize_graph
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.export.parity.gate import onnx_outputs
from edgefel.export.parity.label_metrics import kl_divergence
from edgefel.export.precision.precisions import POLICIES
from edgefel.export.qat.ranges import TrainedRanges
from edgefel.export.qat.student import quantize
from edgefel.files.documents import parse_yaml, read_json
from edgefel.files.write import write_json
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.training.config import QAT_RECIPE, TrainConfig
from edgefel.training.loop import train

PRECISION = "int8"
REPLICATES = 2000
FILES = ("INT8 before", "INT8 after")
OUTPUTS = "logits", "probabilities"


@dataclass(frozen=True)
class Judged:
    """Outputs of a file on the held-out images: logits and probabilities [N, C]."""

    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]


def document(
    checkpoint: Path,
    data: Path,
    votes: str | None,
    name: str,
    seeds: int,
    images: int,
    changes: Sequence[str],
    into: Path | None,
) -> dict[str, Any]:
    """Everything that the result file says, of one data set; with `into`, of all."""
    pairs = (change.partition("=") for change in changes)
    settings = {name: parse_yaml(value, name) for name, _, value in pairs}
    words = ["python", "-m", "edgefel.bench.experiments.qat", checkpoint, "--data", data]
    words += [*(["--votes", votes] if votes else []), "--name", name, "--seeds", seeds, "--images", images]
    words += [word for change in changes for word in ("--set", change)]
    base = TrainConfig().replaced(
        {**QAT_RECIPE, "qat": str(checkpoint), "data": str(data), "votes": votes, **settings}
    )
    original = load_checkpoint(checkpoint)
    judge = Judge(original, base, images)
    runs = [judge.run(base.replaced({"seed": seed})) for seed in range(seeds)]
    found = {
        "command": shlex.join(map(str, words)),
        "model": original.config.name,
        "seeds": seeds,
        "images": len(judge.images),
        "steps": base.max_steps,
        "batch": base.batch_size,
        "lr": base.lr,
        "learned_ranges": base.qat_learn_ranges,
        "fp32_accuracy": float((judge.predicted == judge.images.targets).mean()),
        "training_cpu_seconds": [run["cpu_seconds"] for run in runs],
        **judge.compare(runs),
    }
    head = {"bench": "qat", "versions": versions(onnx=onnx, onnxruntime=onnxruntime, torch=torch)}
    known = read_json(into) if into is not None and into.is_file() else {"data": {}}
    whole = {**known, **head, "data": {**known["data"], name: found}}
    whole["command"] = "; ".join(entry["command"] for entry in whole["data"].values())
    if into is not None:
        write_json(into, whole)
    return whole


class Judge:
    """Files on the same held-out images, beside the FP32 network before."""

    def __init__(self, original: Checkpoint, config: TrainConfig, count: int) -> None:
        self.original = original
        self.preprocessing = Preprocessing.from_dict(original.preprocessing)
        self.images = self._held_out(config, count)
        self.graph, _ = spread_prelu(export_onnx(original.model))
        self.reference = self._outputs(self.graph)
        self.predicted = self.reference.probabilities.argmax(1)

    def _held_out(self, config: TrainConfig, count: int) -> ComparedImages:
        chosen = choose_images(
            config.data,
            self.original.labels,
            calibrate=False,
            per_class=1,
            group_cap=1,
            seed=0,
            layout=config.full_layout,
        )
        dataset = chosen.held_out_dataset
        test = [index for index in chosen.held_out if dataset.samples[index].split == "test"]
        # val has a say in nothing here, but test is where other numbers of the docs come from
        among = test or list(chosen.held_out)
        drawn = np.sort(np.random.default_rng(0).permutation(np.asarray(among))[:count]).tolist()
        loaded = load_images(
            dataset,
            drawn,
            self.original.labels,
            self.preprocessing,
            str(config.data),
            labelled=chosen.labelled,
        )
        if loaded.targets is None:
            raise EdgefelError(f"{config.data}: has no labels to judge by; give a data set")
        return loaded

    def _outputs(self, model: onnx.ModelProto) -> Judged:
        batches = self.images.batches(self.preprocessing)
        values = onnx_outputs(serialize(model), batches, outputs=OUTPUTS, threads=1)
        return Judged(*(values[name] for name in OUTPUTS))

    def run(self, config: TrainConfig) -> dict[str, Any]:
        """Trains one seed; the outputs of its files, and what the training took."""
        with tempfile.TemporaryDirectory(prefix="edgefel-qat-") as folder:
            start = time.process_time()
            trained = train(config, Path(folder, "run"), quiet=True, quantize=quantize)
            seconds = time.process_time() - start
            checkpoint = load_checkpoint(trained.run)
        ranges = TrainedRanges.of(checkpoint)
        assert ranges is not None
        after, _ = spread_prelu(export_onnx(checkpoint.model))
        if ranges.learned:
            raise EdgefelError(
                "--set qat_learn_ranges: the file before would have the ranges of the one after"
            )
        graphs = dict(zip(FILES, (self.graph, after), strict=True))
        files = {name: self._outputs(quantized(graph, ranges)) for name, graph in graphs.items()}
        return {"files": files, "fp32": self._outputs(after), "cpu_seconds": round(seconds, 1)}

    def compare(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Means over seeds, and paired differences, each with an interval over seeds and images."""
        assert self.images.targets is not None
        targets = self.images.targets
        logits = self.reference.logits.astype(np.float64)
        held_out = HeldOut(self.original.labels, targets, self.predicted, np.square(logits).sum(1))
        judged = {name: [run["files"][name] for run in runs] for name in FILES}
        judged["FP32 after"] = [run["fp32"] for run in runs]
        names = list(judged)
        outcomes = [
            FileOutcome(
                one.probabilities.argmax(1), np.square(one.logits - logits).sum(1), self.original.labels
            )
            for name in names
            for one in judged[name]
        ]
        count = len(runs)
        at = {name: range(i * count, (i + 1) * count) for i, name in enumerate(names)}
        bootstrap = TwoLevelBootstrap(held_out, outcomes, count, REPLICATES, 0)
        kl = {
            name: np.stack(
                [kl_divergence(self.reference.probabilities, one.probabilities) for one in judged[name]]
            )
            for name in names
        }
        measures = ("agreement", "sqnr_db", "accuracy", "macro_f1")
        files = {}
        for name in names:
            found = bootstrap.means(at[name])
            files[name] = {m: _plain(found[m]) for m in measures} | {"kl": _plain(mean_interval(kl[name]))}
        change = bootstrap.differences(at[FILES[1]], at[FILES[0]])
        gained = {m: _plain(change[m]) for m in measures}
        gained["kl"] = _plain(mean_interval(kl[FILES[1]] - kl[FILES[0]]))
        return {"files": files, "gained": gained}


def quantized(graph: onnx.ModelProto, ranges: TrainedRanges) -> onnx.ModelProto:
    """The INT8 file for ONNX Runtime with these ranges."""
    placement = place(graph, POLICIES[PRECISION])
    return quantize_graph(graph, placement, ranges.scales_of(graph, placement.activations))


def mean_interval(values: npt.NDArray[np.float64], replicates: int = REPLICATES) -> Interval:
    """Mean of [S, N], seeds by images, with a 95 % interval: both are resampled, as `TwoLevelBootstrap` does."""
    rng = np.random.default_rng(0)
    seeds, count = values.shape
    drawn = rng.integers(seeds, size=(replicates, seeds))
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=replicates) / count
    means = (weights @ values.T)[np.arange(replicates)[:, None], drawn].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def _plain(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "interval": [interval.low, interval.high]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="the FP32 network: a checkpoint or run folder")
    parser.add_argument("--data", type=Path, required=True, help="with splits train and test (or val)")
    parser.add_argument("--votes", help="of FER+, as for edgefel train")
    parser.add_argument("--name", required=True, help="of the data set in the result")
    parser.add_argument("--seeds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--images", type=int, default=2000, help="held-out images [%(default)s]")
    how = "a setting of edgefel train, e.g. max_steps=80"
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE", help=how)
    parser.add_argument("--into", type=Path, help="add the result to this file")
    sys.exit(run_bench(parser, document))
