"""How fast each precision of a network runs on a CPU, beside eager PyTorch: `python -m edgefel.bench.precisions`."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.bench import statistics
from edgefel.bench.command import run_bench, versions
from edgefel.bench.environment import cpu_name
from edgefel.bench.timer import Plan, Timing, measure
from edgefel.errors import EdgefelError

MODEL = "arbex"
EAGER = "PyTorch eager"
CALIBRATION_IMAGES = 8  # random weights: ranges decide nothing about speed
LEAST_SQNR_DB = {"fp32": 60.0, "int8": 10.0}

Array = npt.NDArray[np.float32]


def precision_speed(
    model: str = MODEL, threads: int = 1, min_runs: int = 50, max_seconds: float = 60.0
) -> dict[str, Any]:
    """Times PyTorch and the FP32 and INT8 files in ONNX Runtime in turn (A B A B), at batch 1.

    Weights are random, batch norms have seen data, the image is one synthetic face; no preprocessing is timed.
    Outputs are compared with PyTorch's before anything is timed. The row has milliseconds per image and, for
    each file, how many times as fast as PyTorch it is: the ratio of the medians and its 95 % interval (runs
    resampled in pairs).

    Raises EdgefelError for an unknown model, fewer than one thread, or a file that computes something else.
    """
    import onnxruntime
    import torch

    if threads < 1:
        raise EdgefelError(f"{threads} threads: give at least 1")
    network = _network(model)
    image = _face(network.config.input_size)
    torch.set_num_threads(threads)

    def eager() -> Array:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).logits.numpy()

    files = _files(network, image)
    callables: dict[str, Callable[[], Array]] = {EAGER: eager}
    callables |= {name: _session(data, image, threads) for name, data in files.items()}
    checked = _check({name: fn() for name, fn in callables.items()})
    timings = measure(callables, Plan.of(min_runs, max_seconds / len(callables)))
    rows = [
        _row(name, timings, None if name == EAGER else len(files[name]), checked.get(name))
        for name in callables
    ]
    return {
        "bench": "precisions",
        "command": f"python -m edgefel.bench.precisions --model {model} --threads {threads}",
        "model": model,
        "batch": 1,
        "threads": threads,
        "runs": timings[EAGER].runs,
        "rows": rows,
        "machine": {"cpu": cpu_name(), "architecture": platform.machine()},
        "versions": versions(torch=torch, onnxruntime=onnxruntime),
    }


def _network(name: str) -> Any:
    import torch

    from edgefel.models import build_model

    torch.manual_seed(0)
    network = build_model(name, num_classes=7).train()
    size = network.config.input_size
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(8, 3, size, size))
    return network.eval()


def _face(size: int) -> Array:
    from edgefel.data.preprocessing import default_preprocessing
    from edgefel.data.synthetic import FaceOptions, SyntheticFaces

    face = SyntheticFaces(FaceOptions(count=7, size=size)).sample(0).image
    return default_preprocessing(size).batch([face])


def _files(network: Any, image: Array) -> dict[str, bytes]:
    """Serialized FP32 and INT8 graphs, as an export makes them."""
    from edgefel.calib.collect import activation_scales, collect_activations
    from edgefel.export.onnx.trace import export_onnx, serialize
    from edgefel.export.precision.graphs import Ranges, make_graphs

    noise = np.random.default_rng(0).normal(0, 0.1, (CALIBRATION_IMAGES, *image.shape[1:]))
    batches = [image + row[None].astype(np.float32) for row in noise]

    def calibrate(graph: Any, activations: Sequence[str]) -> Ranges:
        return Ranges(activation_scales(collect_activations(graph, activations, batches), "minmax"), {})

    made = make_graphs(export_onnx(network), ("fp32", "int8"), anchors=None, calibrate=calibrate)
    return {name: serialize(one.model) for name, one in made.items()}


def _session(data: bytes, image: Array, threads: int) -> Callable[[], Array]:
    import onnxruntime as ort

    from edgefel.runtime.manifest import INPUT_NAME

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["logits"], {INPUT_NAME: image})[0]


def _check(outputs: Mapping[str, Array]) -> dict[str, float]:
    """SQNR of every file's logits in dB."""
    from edgefel.export.parity.compare import sqnr_db

    found = {name: sqnr_db(outputs[EAGER], values) for name, values in outputs.items() if name != EAGER}
    for name, sqnr in found.items():
        if not np.isfinite(outputs[name]).all() or sqnr < LEAST_SQNR_DB[name]:
            raise EdgefelError(
                f"{name}: its logits are {sqnr:.1f} dB from PyTorch's, at least "
                f"{LEAST_SQNR_DB[name]:g} are needed; nothing was timed"
            )
    return found


def _row(name: str, timings: Mapping[str, Timing], size: int | None, sqnr: float | None) -> dict[str, Any]:
    own, eager = timings[name], timings[EAGER]
    ratio = statistics.ratio(eager.durations, own.durations)
    return {
        "name": name,
        "ms_p50": round(own.p50, 2),
        "ms_p90": round(own.p90, 2),
        "times_as_fast_as_eager": round(ratio.value, 3),
        "interval": [round(ratio.low, 3), round(ratio.high, 3)],
        "megabytes": None if size is None else round(size / 1e6, 2),
        "logits_sqnr_db": None if sqnr is None else round(sqnr, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and 2."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.precisions", description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a registered model [%(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime [%(default)s]")
    parser.add_argument(
        "--runs",
        dest="min_runs",
        metavar="RUNS",
        type=int,
        default=50,
        help="timed runs at least [%(default)s]",
    )
    return run_bench(parser, precision_speed, arguments)


if __name__ == "__main__":
    sys.exit(main())
