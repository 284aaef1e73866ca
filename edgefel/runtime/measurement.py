"""A stored measurement of this machine: milliseconds of each file of a bundle in each backend. Torch-free.

`edgefel bench pick` takes it, `Session.open` reads it. An entry counts only for the same files, processor, number of
threads and versions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.documents import parse_json
from edgefel.files.read import read_regular
from edgefel.files.write import write_json
from edgefel.runtime import engines
from edgefel.runtime.manifest import Manifest
from edgefel.runtime.telemetry.sysfs import cpu_name

KIND = "picks"
FORMAT = "edgefel-pick"
# distributions that run a file; those of a GPU make the GPU's name part of the key
_ON_CPU = ("onnxruntime", "openvino")
_ON_GPU = ("onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "tensorrt-cu12", "pycuda")
_SHAPE = {"format": None, "parts": dict, "ms": [{"backend": str, "file": str, "ms": float}]}
_log = logging.getLogger("edgefel.runtime")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of one image by (backend, name of the file), the shortest of many calls on so many CPU threads."""

    ms: Mapping[Pair, float]
    threads: int


def measurement_parts(manifest: Manifest, threads: int) -> dict[str, Any]:
    """Everything that an entry is valid for, as JSON values."""
    versions = {
        name: found for name in ("edgefel", *_ON_CPU, *_ON_GPU) if (found := _version(name)) is not None
    }
    gpu = engines.find_gpu() if set(versions).intersection(_ON_GPU) else None
    return {
        "files": sorted([file.name, file.sha256] for file in manifest.files),
        "cpu": cpu_name() or platform.machine(),
        "gpu": None if gpu is None else gpu.name,
        "threads": threads,
        "versions": versions,
    }


def find_measurement(manifest: Manifest, threads: int) -> Measurement | None:
    """The stored measurement of these files on this machine; None if there is none.

    A damaged entry counts as none, with a warning in the log.
    """
    try:
        parts = measurement_parts(manifest, threads)
        path = _path(parts, make=False)
        entry = parse_json(read_regular(path), str(path), _SHAPE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (EdgefelError, OSError) as error:
        _log.warning("the stored measurement is not used: %s; run 'edgefel bench pick' again", error)
        return None
    ms = {(row["backend"], row["file"]): float(row["ms"]) for row in entry["ms"]}
    if (
        entry["format"] != FORMAT
        or _digest(entry["parts"]) != _digest(parts)
        or not all(math.isfinite(value) and value > 0 for value in ms.values())
    ):
        _log.warning("%s: is not a measurement of this machine; run 'edgefel bench pick' again", path)
        return None
    return Measurement(ms, threads) if ms else None


def store_measurement(manifest: Manifest, measurement: Measurement) -> Path:
    """Writes the entry under a temporary name, renames it, and returns its path.

    Raises EdgefelError if the cache folder cannot be made or written.
    """
    parts = measurement_parts(manifest, measurement.threads)
    path = _path(parts, make=True)
    rows = [
        {"backend": backend, "file": file, "ms": value} for (backend, file), value in measurement.ms.items()
    ]
    try:
        write_json(path, {"format": FORMAT, "parts": parts, "ms": rows})
    except OSError as error:
        raise EdgefelError(
            f"{path}: the measurement cannot be written ({error.strerror or error}); "
            "set EDGEFEL_CACHE to a folder that can be written"
        ) from None
    return path


def _path(parts: Mapping[str, Any], *, make: bool) -> Path:
    return cache_folder(KIND, make=make) / f"{_digest(parts)[:32]}.json"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
