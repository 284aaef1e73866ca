"""INT8 by kernels that add two products in 16 bits, as on x86 processors without VNNI, against sums that hold:
`python -m edgefel.bench.experiments.int8_overflow`."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgefel.bench.command import run_bench, versions
from edgefel.bench.timer import TimingPlan, cpu_stopwatch, measure, ratio_to
from edgefel.calib.images import draw_evenly
from edgefel.data.open import open_dataset
from edgefel.export.parity.compare import sqnr_db
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile
from edgefel.runtime.backends.onnxruntime_backend import session_options
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.telemetry.sysfs import cpu_name, lacks_vnni

FP32 = "fp32 by onnxruntime"
BATCH = 16
Array = npt.NDArray[np.float32]
# float32 [N, 3, S, S] -> logits [N, C]
Network = Callable[[Array], Array]


def compare_sums(bundle: str, data: str, compare: int, runs: int) -> dict[str, Any]:
    """SQNR and agreement with FP32 of a bundle's INT8 files by runtime, with and without what keeps sums right.

    data: images of the split test are compared, as many of each class as there are. Times are CPU time of the process
    for one image on one thread, taken in turn. Says nothing on a processor with VNNI, which adds in 32 bits.
    Raises EdgefelError as `open_dataset`.
    """
    manifest = read_manifest(bundle)
    dataset = open_dataset(data).matched(manifest.labels).dataset
    test = [index for index, sample in enumerate(dataset.samples) if sample.split in ("test", None)]
    chosen = draw_evenly(dataset, test, compare, seed=0)
    images = [dataset.load(index) for index in chosen]
    batches = [
        manifest.preprocessing.batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
    ]
    networks = _networks(bundle)
    outputs = {name: np.concatenate([run(batch) for batch in batches]) for name, run in networks.items()}
    calls = {name: partial(run, batches[0][:1]) for name, run in networks.items()}
    timings = measure(calls, TimingPlan.exactly(runs), cpu_stopwatch(time.process_time_ns))
    rows = []
    for name, actual in outputs.items():
        ratio = ratio_to(timings, FP32, name)
        rows.append(
            {
                "network": name,
                "sqnr_db": round(sqnr_db(outputs[FP32], actual), 2),
                "agreement": round(float(np.mean(actual.argmax(1) == outputs[FP32].argmax(1))), 4),
                "times_as_fast": round(ratio["value"], 3),
                "interval": [round(end, 3) for end in ratio["interval"]],
            }
        )
    return {
        "bench": "int8-overflow",
        "command": f"python -m edgefel.bench.experiments.int8_overflow {bundle} --data {data} --compare {compare} "
        f"--runs {runs}",
        "model": manifest.model.name,
        "images": len(images),
        "rows": rows,
        "machine": {
            "cpu": cpu_name(),
            "architecture": platform.machine(),
            "lacks_vnni": lacks_vnni(),
        },
        "versions": versions(onnxruntime=onnxruntime),
    }


def _networks(bundle: str) -> dict[str, Network]:
    """ONNX Runtime's FP32 and INT8, INT8 with its default options, and OpenVINO's INT8 if that is installed."""
    manifest = read_manifest(bundle)
    found: dict[str, Network] = {}
    for precision in ("fp32", "int8"):
        path = str(manifest.verify(manifest.find(precision)))
        default = onnxruntime.SessionOptions()
        default.intra_op_num_threads, default.log_severity_level = 1, 3
        sessions = {f"{precision} by onnxruntime": session_options(threads=1)}
        if precision == "int8":
            sessions["int8 by onnxruntime, default options"] = default
        for name, options in sessions.items():
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[name] = partial(_run, session)
    for file in manifest.files:
        if file.kind != "onnx" or not file.precision.startswith("int8"):
            continue
        try:
            backend = BACKENDS["openvino"].load().open(ModelFile.of(manifest, file), threads=1)
        except ModuleNotFoundError:
            break
        found[f"{file.precision} by openvino"] = partial(_run_backend, backend)
    return found


def _run_backend(backend: Backend, batch: Array) -> Array:
    return backend.run(batch)["logits"]


def _run(session: Any, batch: Array) -> Array:
    return cast(Array, session.run(["logits"], {"image": batch})[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and 2."""
    parser = argparse.ArgumentParser(
        prog="python -m edgefel.bench.experiments.int8_overflow", description=__doc__
    )
    parser.add_argument("bundle", type=Path, help="a bundle with an FP32 and an INT8 file")
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--compare", type=int, default=1000, help="compared images [%(default)s]")
    parser.add_argument("--runs", type=int, default=150, help="timed runs of each [%(default)s]")
    return run_bench(parser, compare_sums, arguments)


if __name__ == "__main__":
    sys.exit(main())
