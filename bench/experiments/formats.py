"""FP8 and weight-only files of a trained network: the gate's comparison, and which GPUs TensorRT builds them for.

python -m edgefel.bench.experiments.formats run FER+ > docs/results/formats.json
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgefel.bench.command import run_bench
from edgefel.bench.experiments.int8_results import file_rows
from edgefel.errors import EdgefelError
from edgefel.export.bundle import ExportOptions, export_bundle
from edgefel.export.record import tool_versions
from edgefel.export.tensorrt.engine import EngineOptions, build_engine, load_tensorrt
from edgefel.export.tensorrt.formats import check_formats
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.telemetry.sysfs import cpu_name

PRECISIONS = ("fp16", "fp8", "w8a16", "w4a16")
TARGETS = ("sm_86", "sm_89", "sm_120")


def measure(run: Path, data: Path, images: int) -> dict[str, Any]:
    """Exports the run and builds an engine of every file for every target. images: that files are compared on."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "bundle")
        export_bundle(run, bundle, ExportOptions(PRECISIONS, parity_images=images), data=data)
        manifest = read_manifest(bundle)
        rows = file_rows(bundle)
        for row in rows:
            builder = manifest.find(row["precision"]).builder or {}
            row["layers"] = builder.get(f"{row['precision']}_nodes")
            row["layers_in_float"] = len(builder.get("float_nodes", {}))
            file = bundle / row["file"]
            row["engines"] = {target: _engine(file, row["precision"], target) for target in TARGETS}
    trt = load_tensorrt()
    return {
        "command": f"python -m edgefel.bench.experiments.formats {run} {data} --images {images}",
        "model": manifest.model.name,
        "images": images,
        "files": rows,
        "tensorrt": f"{trt.__name__} {trt.__version__}",
        "machine": {"cpu": cpu_name(), "architecture": platform.machine()},
        "versions": tool_versions(),
    }


def _engine(file: Path, precision: str, target: str) -> dict[str, Any]:
    """Bytes of the engine, or why there is none."""
    options = EngineOptions(max_batch=1, compute_capabilities=(target,))
    engine = file.with_suffix(".engine")
    try:
        check_formats([precision], options, file.name)
        build_engine(file, engine, options)
    except EdgefelError as error:
        return {"bytes": None, "reason": str(error)}
    return {"bytes": engine.stat().st_size, "reason": None}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of edgefel train, or a checkpoint")
    parser.add_argument("data", type=Path, help="labelled images to calibrate and compare on")
    parser.add_argument(
        "--images", type=int, default=1000, help="held-out images to compare on [%(default)s]"
    )
    sys.exit(run_bench(parser, measure))
