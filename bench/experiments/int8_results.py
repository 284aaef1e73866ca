"""The INT8 rows of docs/quantization.md: a trained network on faces that it has not seen.

    edgefel data synth -o faces --count 14000 --subjects 500 --size 144 --pose 0.5 --nuisance 0.5 \\
        --blend 0.1 --intensity 0.7 1.0 --seed 11
    edgefel train --model arbex-nano --data faces -o run ...   # see the run's config.yaml
    python -m edgefel.bench.experiments.int8_results run faces --plot layers.png > int8-nano.json

Exports the run twice, with every layer in INT8 and with the mix that --auto finds on the split val, judges both on
2,000 faces of the split test, then multiplies the scale of one layer's input by 8, judges that file and ranks its
layers.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgefel.bench.command import run_bench
from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.images import draw_evenly, load_images
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.sampling import balanced_samples
from edgefel.calib.thresholds import DEFAULT_METHOD
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.export.bundle import ExportOptions, export_bundle
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.export.parity.check import check_bundle
from edgefel.export.parity.gate import Gate, onnx_outputs
from edgefel.export.precision.mixed import PLOT_NAME, RANKING_IMAGES
from edgefel.export.precision.precisions import Build, Ranges, make_graphs
from edgefel.export.precision.sensitivity import LayerCost, rank_layers
from edgefel.export.record import tool_versions
from edgefel.models.checkpoint import load_checkpoint
from edgefel.progress import Progress
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.telemetry.sysfs import cpu_name

IMAGES, PER_CLASS = 2000, 64
# stricter than the default, and on more images than it takes: what the search finds should show on others
MAX_DROP, SEARCH_IMAGES = 0.25, 1024
BROKEN_LAYER, BROKEN_BY = "encoder.image_stream.stages.1.0.residual.1/Conv", 8


def file_rows(bundle: Path) -> list[dict[str, Any]]:
    """The manifest's comparison of every ONNX file."""
    rows = []
    for file in read_manifest(bundle).files:
        parity = dict(file.parity or {})
        labels = parity["labels"]
        worst = min(labels["classes"], key=lambda row: row["change"])
        kept = ("verdict", "reasons", "images", "agreement_interval", "logits_sqnr_db", "kl_mean")
        scores = ("accuracy", "accuracy_reference", "macro_f1", "macro_f1_reference")
        rows.append(
            {"file": file.name, "precision": file.precision, "bytes": file.bytes}
            | {name: parity[name] for name in kept}
            | {"agreement": parity["top1_agreement"]}
            | {name: labels[name] for name in scores}
            | {f"worst_recall_{name}": worst[name] for name in ("change", "interval")}
            | {"worst_class": worst["label"]}
        )
    return rows


def broken_rows(run: Path, faces: Path) -> dict[str, Any]:
    """Verdict and ranking where the scale of one layer's input is wrong by BROKEN_BY."""
    checkpoint = load_checkpoint(str(run))
    own = Preprocessing.from_dict(checkpoint.preprocessing)
    train, held_out = open_dataset(faces, "train"), open_dataset(faces, "test")
    chosen = balanced_samples(train, PER_CLASS, 32, 0)
    reader = CalibrationReader(train, chosen.indices, own)
    indices = draw_evenly(held_out, range(len(held_out)), 700, 0)
    images = load_images(held_out, indices, checkpoint.labels, own, str(faces), labelled=True)
    few = images.spread(RANKING_IMAGES)
    ranking: list[LayerCost] = []

    def calibrate(form: onnx.ModelProto, activations: Sequence[str]) -> Ranges:
        found = collect_activations(form, activations, reader)
        scales, ends = activation_scales(found, DEFAULT_METHOD), activation_ends(found, DEFAULT_METHOD)
        tensor = GraphIndex(form.graph).nodes[BROKEN_LAYER].input[0]
        low, high = ends[tensor]
        scales[tensor] *= np.float32(BROKEN_BY)
        ends[tensor] = BROKEN_BY * low, BROKEN_BY * high
        return Ranges(scales, {}, ends=ends)

    def outputs(model: onnx.ModelProto) -> Any:
        return onnx_outputs(serialize(model), few.batches(own))

    def choose(form: onnx.ModelProto, layers: Sequence[str], build: Build) -> dict[str, str]:
        ranking.extend(rank_layers(form, layers, build, outputs, few.targets))
        return {}

    graph = export_onnx(checkpoint.model)
    made = make_graphs(graph, ("int8",), anchors=None, calibrate=calibrate, choose=choose)["int8"]
    parity = Gate(checkpoint, images).judge(serialize(made.model), "int8", own)
    return {
        "layer": BROKEN_LAYER,
        "scale_times": BROKEN_BY,
        "images": parity.images,
        "activations": made.builder["activations"],
        "verdict": parity.verdict,
        "reasons": list(parity.reasons),
        "agreement": parity.top1_agreement,
        "costliest_layers": [dataclasses.asdict(cost) for cost in ranking[:3]],
    }


class _Steps(Progress):
    def start(self, step: str, total: int | None = None) -> None:
        print(step, file=sys.stderr)


def measure(run: Path, faces: Path, plot: Path | None) -> dict[str, Any]:
    """Runs everything. plot: where to put the plot of the mixed precision."""
    progress = _Steps()
    results: dict[str, Any] = {"command": f"python -m edgefel.bench.experiments.int8_results {run} {faces}"}
    with tempfile.TemporaryDirectory() as folder:
        for name, auto in (("all_int8", False), ("mixed", True)):
            searching: dict[str, Any] = {"auto": auto, "max_drop": MAX_DROP, "search_images": SEARCH_IMAGES}
            options = ExportOptions(("fp32", "fp16", "int8"), per_class=PER_CLASS, **searching)
            bundle = Path(folder, name)
            report = export_bundle(run, bundle, options, data=faces, progress=progress)
            check_bundle(bundle, faces, split="test", checkpoint=run, images=IMAGES, progress=progress)
            results[name] = {"files": file_rows(bundle)}
            if (search := report.search) is not None:
                results[name] |= {
                    "int8_share_of_macs": search.int8_share,
                    "layers": len(search.decisions),
                    "kept_float": search.keep_float,
                    "mixes_tried": len(search.trials),
                }
                if plot is not None:
                    shutil.copyfile(bundle / PLOT_NAME, plot)
    progress.start("a broken scale")
    return results | {
        "calibration": {"per_class": PER_CLASS, "method": DEFAULT_METHOD},
        "search": {"max_drop": MAX_DROP, "images": SEARCH_IMAGES},
        "broken": broken_rows(run, faces),
        "machine": {"cpu": cpu_name(), "architecture": platform.machine()},
        "versions": tool_versions(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of edgefel train, or a checkpoint")
    parser.add_argument("faces", type=Path, help="data set with the splits train, val and test")
    parser.add_argument("--plot", type=Path, help="PNG of what the layers cost")
    sys.exit(run_bench(parser, measure))
