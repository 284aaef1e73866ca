"""Time and memory of INT8 calibration: `python -m edgefel.bench.calibration`."""

from __future__ import annotations

import argparse
import math
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgefel.bench.command import run_bench, versions
from edgefel.bench.results import check_counts, check_names
from edgefel.bench.sessions import own_peak_mb
from edgefel.calib.thresholds import DEFAULT_METHOD
from edgefel.files.unfinished import claimed_folder
from edgefel.runtime.telemetry.sysfs import cpu_name
from edgefel.workers import usable_cores, worker_pool

MODEL, IMAGES, METHOD = "arbex", 512, DEFAULT_METHOD


def calibration_speed(
    model: str = MODEL, images: int = IMAGES, method: str = METHOD, workers: int | None = None
) -> dict[str, Any]:
    """Calibrates a network with random weights on synthetic faces on disk, as an export would.

    The row has wall seconds of each phase and of all, seconds per image of collecting, and the peak memory of
    the calibrating process, in 10^6 bytes. Export and rendering run before, in this process, and are not
    counted. workers: as for `ActivationCollector`. Raises EdgefelError for an unknown model or method, or no image.
    """
    from edgefel.calib.thresholds import METHODS

    check_names("calibration method", (method,), METHODS)
    check_counts(images=images)
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as folder:
        _prepare(folder, model, images)
        with worker_pool(1) as pool:  # another process, whose memory is measured
            measured = pool.submit(_calibrate, str(folder), method, workers).result()
    return {
        "bench": "calibration",
        "command": f"python -m edgefel.bench.calibration --model {model} --images {images} --method {method}",
        "model": model,
        "method": method,
        **measured,
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "architecture": platform.machine()},
    }


def _prepare(folder: Path, model: str, images: int) -> None:
    """Writes model.onnx and faces/."""
    from edgefel.bench.networks import random_network
    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces
    from edgefel.export.onnx.trace import export_onnx, save_onnx

    network = random_network(model, passes=0, num_classes=7)
    save_onnx(export_onnx(network), folder / "model.onnx")
    write_faces(folder / "faces", FaceOptions(count=images), workers=usable_cores())


def _calibrate(folder: str, method: Any, workers: int | None) -> dict[str, Any]:
    import cv2
    import numpy as np
    import onnx
    import onnxruntime

    from edgefel.calib.collect import ActivationCollector
    from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
    from edgefel.calib.reader import CalibrationReader
    from edgefel.data.open import open_dataset
    from edgefel.data.preprocessing import default_preprocessing
    from edgefel.runtime.manifest import INPUT_NAME

    marks = [("begin", time.perf_counter())]

    def end(phase: str) -> None:
        marks.append((phase, time.perf_counter()))

    graph = onnx.load(Path(folder, "model.onnx"))
    policies = (ONNXRUNTIME, TENSORRT)
    tensors = list(dict.fromkeys(t for policy in policies for t in place(graph, policy).activations))
    dataset = open_dataset(Path(folder, "faces"))
    size = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    reader = CalibrationReader(dataset, range(len(dataset)), default_preprocessing(size))
    end("load")
    collector = ActivationCollector(graph, tensors, workers)
    end("session")
    busy = time.process_time()
    collector.collect(reader)
    busy = time.process_time() - busy
    end("collect")
    scales = collector.compute(method)
    end("thresholds")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales.values()):
        raise RuntimeError("a scale is not a positive number: nothing was measured")
    seconds = {phase: now - last for (_, last), (phase, now) in pairwise(marks)}
    histograms = collector.histograms()
    values = sum(math.prod(h.shape or ()) for name, h in histograms.items() if name != INPUT_NAME)
    return {
        "images": collector.images,
        "tensors": len(tensors),
        "activation_bytes_per_image": 4 * values,
        "workers": collector.workers,
        "seconds": round(sum(seconds.values()), 2),
        "seconds_by_phase": {name: round(value, 2) for name, value in seconds.items()},
        "seconds_per_image": round(seconds["collect"] / collector.images, 4),
        "cpu_seconds_per_image": round(busy / collector.images, 4),
        "peak_mb": round(own_peak_mb(), 1),
        "versions": versions(numpy=np, onnxruntime=onnxruntime, opencv=cv2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.calibration", description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a registered model [%(default)s]")
    parser.add_argument("--images", type=int, default=IMAGES, help="faces to calibrate on [%(default)s]")
    parser.add_argument("--method", default=METHOD, help="how ranges are chosen [%(default)s]")
    parser.add_argument("--workers", type=int, help="images at the same time [one per core]")
    return run_bench(parser, calibration_speed, arguments)


if __name__ == "__main__":
    sys.exit(main())
