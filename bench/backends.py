"""How fast each backend that is here runs each file of a bundle: `python -m edgefel.bench.backends BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.bench.command import cpu_name, run_bench, versions
from edgefel.bench.timer import interleave
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.doctor.machine import installed_version
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session

REFERENCE = "onnxruntime"
PACKAGES = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu13")
# of probabilities, from ONNX Runtime's of the same file; what rounding of INT8 may do to one image is more
LARGEST_DEVIATION = {"fp32": 1e-4, "fp16": 0.05}


def backend_speed(
    bundle: Path, threads: int = 1, batch: int = 1, runs: int = 30, seconds: float = 60.0
) -> dict[str, Any]:
    """Times every file of the bundle in every backend that can run it here, one after the other in turn (A B A B).

    Of a few synthetic faces, without preprocessing. Before anything is timed, float files must give what ONNX Runtime
    gives; of INT8 the deviation is in the row. Raises EdgefelError for a bundle that cannot be read or a file that
    computes something else.
    """
    manifest = read_manifest(bundle)
    faces = SyntheticFaces(FaceOptions(count=batch, size=224, seed=1))
    crops = [faces.sample(index).image for index in range(batch)]
    with ExitStack() as stack:
        sessions: dict[tuple[str, str], Session] = {}
        skipped: dict[str, str] = {}
        for file in manifest.files:
            for name, entry in BACKENDS.items():
                if entry.kind != file.kind:
                    continue
                try:
                    session = Session.open(bundle, file.precision, name, threads, force=True)
                except EdgefelError as error:
                    skipped[name] = str(error)
                    continue
                sessions[file.precision, name] = stack.enter_context(session)
        deviations = _deviations(sessions, crops)
        prepared = {key: _call(session, crops) for key, session in sessions.items()}
        timings = interleave(
            {" ".join(key): call for key, call in prepared.items()},
            warmup=3,
            min_runs=runs,
            max_seconds=seconds,
        )
    rows = []
    for precision, name in sessions:
        own = timings[f"{precision} {name}"]
        reference = timings.get(f"{precision} {REFERENCE}")
        rows.append(
            {
                "precision": precision,
                "backend": name,
                "ms_p50": round(own.p50, 3),
                "ms_p90": round(own.p90, 3),
                "times_as_fast_as_onnxruntime": reference and round(reference.p50 / own.p50, 3),
                "largest_deviation": deviations[precision, name],
            }
        )
    return {
        "bench": "backends",
        "command": f"python -m edgefel.bench.backends {bundle.name} --threads {threads} --batch {batch}",
        "model": manifest.model.name,
        "threads": threads,
        "batch": batch,
        "runs": min(timing.runs for timing in timings.values()),
        "rows": rows,
        "skipped": skipped,
        "machine": cpu_name(),
        "versions": versions() | {name: found for name in PACKAGES if (found := installed_version(name))},
    }


def _deviations(
    sessions: dict[tuple[str, str], Session], crops: Sequence[Any]
) -> dict[tuple[str, str], float]:
    """Largest difference of a probability from ONNX Runtime's, by (precision, backend)."""
    found = {key: session(crops).probabilities for key, session in sessions.items()}
    deviations = {}
    for (precision, name), values in found.items():
        reference = found.get((precision, REFERENCE))
        deviation = 0.0 if reference is None else float(np.abs(values - reference).max())
        if deviation > LARGEST_DEVIATION.get(precision, 1.0):
            raise EdgefelError(
                f"{name}: its probabilities of the {precision} file are {deviation:.1e} from ONNX Runtime's; "
                "nothing was timed"
            )
        deviations[precision, name] = round(deviation, 7)
    return deviations


def _call(session: Session, crops: Sequence[Any]) -> Callable[[], Any]:
    preprocessing = session.manifest.preprocessing
    in_graph = session.manifest.input_type == "uint8"
    batch = preprocessing.pixel_batch(crops) if in_graph else preprocessing.batch(crops)
    return lambda: session.run(batch)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and 2."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.backends", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="of one call [%(default)s]")
    parser.add_argument("--batch", type=int, default=1, help="faces of one call [%(default)s]")
    parser.add_argument("--runs", type=int, default=30, help="timed runs at least [%(default)s]")
    return run_bench(parser, backend_speed, arguments)


if __name__ == "__main__":
    sys.exit(main())
