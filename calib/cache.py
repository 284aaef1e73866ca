"""Calibrated scales kept between runs, and used again only where everything that decides them is the same."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.thresholds import CalibrationMethod
from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.documents import parse_json
from edgefel.files.read import read_regular
from edgefel.files.write import write_json

KIND = "calibration"
FORMAT = "edgefel-calibration-scales"
# what decides a range, from the image's file to the scale; an edit of any of them makes every entry stale
CODE = (
    "edgefel.calib.cache",
    "edgefel.calib.collect",
    "edgefel.calib.histogram",
    "edgefel.calib.image_sqnr",
    "edgefel.calib.reader",
    "edgefel.calib.thresholds",
    "edgefel.data.dataset",
    "edgefel.data.readers.folder",
    "edgefel.data.preprocessing",
)

Scales = dict[str, np.float32]
Ends = dict[str, tuple[float, float]]


def cached_scales(
    graph: onnx.ModelProto,
    tensors: Sequence[str],
    reader: CalibrationReader,
    method: CalibrationMethod,
    set_key: str | None,
    *,
    warn: Callable[[str], None],
    advance: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> tuple[Scales, Ends, dict[str, Any]]:
    """INT8 scale and asymmetric ends of every activation in `tensors`, from the cache or by calibrating on `reader`.

    graph: FP32, as `collect_activations` takes it. set_key: `CalibrationSet.key()`, which stands for the bytes
    of every image; None where there is none, and then nothing is cached. warn: told of an entry or a folder
    that cannot be used. advance: called with the number of images done, also for a hit.

    Returns scales, ends and what to say of them: {"cache": "hit", "miss" or "off", "key": the entry's, or None}.
    A calibration that skipped unreadable images is not stored, since its caller has to name them each time.

    Raises EdgefelError as `collect_activations` and `activation_scales` do; never because of the cache.
    """

    def calibrate() -> tuple[Scales, Ends]:
        found = collect_activations(graph, tensors, reader, advance, workers=workers)
        return activation_scales(found, method), activation_ends(found, method)

    if set_key is None:
        return *calibrate(), {"cache": "off", "key": None}
    try:
        parts = key_parts(graph, tensors, reader, method, set_key)
        folder = cache_folder(KIND)
    except (EdgefelError, OSError) as error:
        warn(f"calibration is not cached: {error}")
        return *calibrate(), {"cache": "off", "key": None}
    key = _digest(parts)
    path = folder / f"{key}.json"
    found = _read(path, parts, warn)
    if found is not None:
        reader.skipped.clear()
        if advance is not None:
            advance(len(reader))
        scales, ends = found
        names = dict.fromkeys(tensors)
        hit = {"cache": "hit", "key": key}
        return {name: scales[name] for name in names}, {name: ends[name] for name in names}, hit
    scales, ends = calibrate()
    if not reader.skipped:
        _write(path, parts, scales, ends, warn)
    return scales, ends, {"cache": "miss", "key": key}


def key_parts(
    graph: onnx.ModelProto,
    tensors: Sequence[str],
    reader: CalibrationReader,
    method: CalibrationMethod,
    set_key: str,
) -> dict[str, Any]:
    """Everything that decides the scales, as JSON values."""
    return {
        "graph": hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest(),
        "calibration_set": set_key,
        "images": list(reader.indices),
        "preprocessing": reader.preprocessing.to_dict(),
        "method": method,
        "tensors": sorted(set(tensors)),
        "code": code_hash(),
        # the same arithmetic is compiled differently for another processor architecture
        "versions": {
            "numpy": np.__version__,
            "onnxruntime": ort.__version__,
            "opencv": cv2.__version__,
            "architecture": platform.machine(),
        },
    }


def code_hash() -> str:
    """Hex SHA-256 of the source of `CODE`."""
    digest = hashlib.sha256()
    for name in CODE:
        source = importlib.import_module(name).__file__
        assert source is not None
        # the lengths keep text that moves from one file to the next from giving the same hash
        text = Path(source).read_bytes()
        digest.update(f"{name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


_SHAPE = {
    "format": None,
    "parts": dict,
    "scales": {str: float},
    "ends": {str: [float]},
    "scales_sha256": str,
}


def _read(path: Path, parts: dict[str, Any], warn: Callable[[str], None]) -> tuple[Scales, Ends] | None:
    """Scales and ends of an entry; None if there is none, or, with a warning, if it is not what was written."""
    try:
        entry = parse_json(read_regular(path), str(path), _SHAPE)
        # by their hash: a tuple comes back as a list
        if entry["format"] != FORMAT or _digest(entry["parts"]) != _digest(parts):
            raise ValueError("it belongs to another calibration")
        scales, ends = entry["scales"], entry["ends"]
        if entry["scales_sha256"] != _digest([scales, ends]) or not (
            sorted(scales) == sorted(ends) == parts["tensors"]
        ):
            raise ValueError("its scales are not those that were written")
        if not all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in ends.values()):
            raise ValueError("a range is not two numbers")
        if not all(math.isfinite(scale) and scale > 0 for scale in scales.values()):
            raise ValueError("a scale is not a positive number")
    except FileNotFoundError:
        return None
    except (EdgefelError, OSError, ValueError) as error:
        warn(f"{path}: the calibration cache's entry is damaged ({error}); calibrating again")
        return None
    found = {name: np.float32(scale) for name, scale in scales.items()}
    return found, {name: (low, high) for name, (low, high) in ends.items()}


def _write(
    path: Path, parts: dict[str, Any], scales: Scales, ends: Ends, warn: Callable[[str], None]
) -> None:
    # float64 holds every float32, and JSON every float64: the scales come back to the bit
    values = {name: float(scale) for name, scale in scales.items()}
    pairs = {name: list(pair) for name, pair in ends.items()}
    digest = _digest([values, pairs])
    entry = {"format": FORMAT, "parts": parts, "scales_sha256": digest, "scales": values, "ends": pairs}
    try:
        write_json(path, entry)
    except OSError as error:
        warn(f"calibration is not cached: {path} cannot be written ({error.strerror or error})")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
