"""Speed of each precision of a network on a CPU, beside eager PyTorch: `python -m edgefel.bench.precisions`."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgefel.bench.command import run_bench, versions
from edgefel.bench.results import Row
from edgefel.bench.timer import TimingPlan
from edgefel.runtime.telemetry.sysfs import cpu_name

MODEL = "arbex"
EAGER = "PyTorch eager"


def precision_speed(
    model: str = MODEL, threads: int = 1, min_runs: int = 50, max_seconds: float = 60.0
) -> dict[str, Any]:
    """A comparison (`edgefel.bench.compare`) of PyTorch with the FP32 and INT8 files in ONNX Runtime, at batch 1.

    Weights are random. The result has milliseconds per image and, for each file, how many times as fast as PyTorch it
    is. Raises EdgefelError for an unknown model, fewer than one thread, or a file that computes something else.
    """
    import onnxruntime
    import torch

    from edgefel.bench.compare.contenders import EAGER as PYTORCH
    from edgefel.bench.compare.contenders import prepare
    from edgefel.bench.compare.run import CompareOptions, compare

    options = CompareOptions(
        ("fp32", "int8"),
        (PYTORCH, "onnxruntime"),
        threads=(threads,),
        plan=TimingPlan.of(min_runs, max_seconds / 3),
        baseline=f"{model} fp32 {PYTORCH}",
        memory=False,
    )
    with tempfile.TemporaryDirectory() as work:
        rows = compare([prepare(model, Path(work), options.precisions)], options).rows
    return {
        "bench": "precisions",
        "command": f"python -m edgefel.bench.precisions --model {model} --threads {threads}",
        "model": model,
        "batch": 1,
        "threads": threads,
        "runs": rows[0].metrics["latency_ms"]["runs"],
        "rows": [_line(row, row.subject["backend"] == PYTORCH) for row in rows],
        "machine": {"cpu": cpu_name(), "architecture": platform.machine()},
        "versions": versions(torch=torch, onnxruntime=onnxruntime),
    }


def _line(row: Row, eager: bool) -> dict[str, Any]:
    metrics = row.metrics
    return {
        "name": EAGER if eager else row.subject["precision"],
        "ms_p50": round(metrics["latency_ms"]["p50"], 2),
        "ms_p90": round(metrics["latency_ms"]["p90"], 2),
        "times_as_fast_as_eager": round(metrics["ratio"]["value"], 3),
        "interval": [round(end, 3) for end in metrics["ratio"]["interval"]],
        "megabytes": None if eager else round(metrics["file_bytes"] / 1e6, 2),
        "logits_sqnr_db": None if eager else metrics["sqnr_db"],
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
    parser.add_argument(
        "--seconds",
        dest="max_seconds",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="of timing, in all [%(default)g]",
    )
    return run_bench(parser, precision_speed, arguments)


if __name__ == "__main__":
    sys.exit(main())
