"""Symmetric against asymmetric activations in ONNX Runtime's INT8 file:
`python -m edgefel.bench.experiments.asymmetric_activations`."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgefel.bench.command import run_bench, versions
from edgefel.bench.networks import onnxruntime_session
from edgefel.bench.timer import TimingPlan, cpu_stopwatch, measure, ratio_to
from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.images import draw_evenly
from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.calib.quantize import quantize
from edgefel.calib.thresholds import METHODS, CalibrationMethod
from edgefel.data.dataset import ImageDataset
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.export.onnx.trace import serialize
from edgefel.export.parity.compare import sqnr_db
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.telemetry.sysfs import cpu_name

FP32, SYMMETRIC, ASYMMETRIC, SHIPPED = "fp32", "symmetric", "asymmetric", "in the bundle"
BATCH = 16
Array = npt.NDArray[np.float32]


def compare_activations(
    bundle: str, data: str, methods: Sequence[CalibrationMethod], calibrate: int, compare: int, runs: int
) -> dict[str, Any]:
    """SQNR and agreement with FP32 of both forms by method of calibration, and how fast they are.

    bundle: its FP32 file for ONNX Runtime is quantized. data: calibrated on images of the split train, compared on test
    (or on two halves where there are no splits), as many of each class as there are. Times are CPU time of the process
    on one thread, taken in turn, and so hold on a machine that does other work. Raises EdgefelError as `open_dataset`.
    """
    manifest = read_manifest(bundle)
    graph = onnx.load(manifest.verify(manifest.find("fp32")))
    dataset = open_dataset(data).matched(manifest.labels).dataset
    chosen = _split(dataset, calibrate, compare)
    seen, unseen = (_batches(dataset, indices, manifest.preprocessing) for indices in chosen)
    held_out = list(unseen)
    placement = place(graph, ONNXRUNTIME)
    histograms = collect_activations(graph, placement.activations, seen)
    reference = _logits(graph, held_out)
    rows, files = [], {FP32: serialize(graph)}
    for method in methods:
        scales, ends = activation_scales(histograms, method), activation_ends(histograms, method)
        for name, given in ((SYMMETRIC, None), (ASYMMETRIC, ends)):
            model = quantize(graph, placement, scales, given)
            files[name] = serialize(model)
            actual = _logits(model, held_out)
            rows.append(
                {
                    "method": method,
                    "activations": name,
                    "sqnr_db": round(sqnr_db(reference, actual), 2),
                    "agreement": round(float(np.mean(actual.argmax(1) == reference.argmax(1))), 4),
                }
            )
    for file in manifest.files:
        if (file.kind, file.precision) == ("onnx", "int8"):
            files[SHIPPED] = manifest.verify(file).read_bytes()
    return {
        "bench": "asymmetric-activations",
        "command": f"python -m edgefel.bench.experiments.asymmetric_activations {bundle} --data {data}",
        "model": manifest.model.name,
        "images": {"calibrated": len(chosen[0]), "compared": len(chosen[1])},
        "rows": rows,
        "speed": _speed(files, held_out[0][:1], runs),
        "machine": {"cpu": cpu_name(), "architecture": platform.machine()},
        "versions": versions(onnx=onnx, onnxruntime=onnxruntime),
    }


def _split(dataset: ImageDataset, calibrate: int, compare: int) -> tuple[Sequence[int], Sequence[int]]:
    by_split: dict[str | None, list[int]] = {}
    for index, sample in enumerate(dataset.samples):
        by_split.setdefault(sample.split, []).append(index)
    everything = range(len(dataset.samples))
    train = by_split.get("train", list(everything[::2]))
    test = by_split.get("test", list(everything[1::2]))
    return draw_evenly(dataset, train, calibrate, seed=0), draw_evenly(dataset, test, compare, seed=0)


def _batches(dataset: ImageDataset, indices: Sequence[int], preprocessing: Preprocessing) -> Iterator[Array]:
    for start in range(0, len(indices), BATCH):
        yield preprocessing.batch([dataset.load(index) for index in indices[start : start + BATCH]])


def _logits(model: onnx.ModelProto, batches: Sequence[Array]) -> Array:
    session = onnxruntime_session(model)
    return np.concatenate([session.run(["logits"], {"image": batch})[0] for batch in batches])


def _speed(files: dict[str, bytes], image: Array, runs: int) -> list[dict[str, Any]]:
    """CPU milliseconds of an image; the ratio is to the symmetric file."""
    sessions = {name: onnxruntime_session(data) for name, data in files.items()}
    calls = {name: partial(session.run, None, {"image": image}) for name, session in sessions.items()}
    timings = measure(calls, TimingPlan.exactly(runs), cpu_stopwatch(time.process_time_ns))
    lines = []
    for name in files:
        ratio = ratio_to(timings, SYMMETRIC, name)
        lines.append(
            {
                "file": name,
                "nodes": len(onnx.load_from_string(files[name]).graph.node),
                "cpu_ms_p50": round(timings[name].p50, 3),
                "cpu_ms_min": round(timings[name].min, 3),
                "times_as_fast": round(ratio["value"], 3),
                "interval": [round(end, 3) for end in ratio["interval"]],
                "runs": timings[name].runs,
            }
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and 2."""
    parser = argparse.ArgumentParser(
        prog="python -m edgefel.bench.experiments.asymmetric_activations", description=__doc__
    )
    parser.add_argument("bundle", type=Path, help="a bundle with an FP32 file")
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--calibrate", type=int, default=512, help="calibration images [%(default)s]")
    parser.add_argument("--compare", type=int, default=1000, help="compared images [%(default)s]")
    parser.add_argument("--runs", type=int, default=300, help="timed runs of each file [%(default)s]")
    return run_bench(parser, compare_activations, arguments)


if __name__ == "__main__":
    sys.exit(main())
