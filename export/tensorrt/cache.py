"""Cache of engines and kernel timings, so that the same build is not done twice."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel import __version__
from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.files.cache import cache_folder
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import atomic_file, atomic_folder, sha256, write_json
from edgefel.runtime.engines import Gpu
from edgefel.text import one_line

_FORMAT = 1
_ENGINE, _ENTRY = "model.engine", "entry.json"


@dataclass(frozen=True)
class CachedEngine:
    """An engine of the cache, its bytes checked. builder, layers: what `build_engine` recorded of it."""

    path: Path
    builder: dict[str, Any]
    layers: dict[str, Any]


@dataclass(frozen=True)
class EngineCache:
    """A folder with one folder per engine, and the timing caches."""

    folder: Path

    @classmethod
    def default(cls) -> EngineCache:
        """The user's own: `~/.cache/edgefel/engines`, see `edgefel.files.cache`."""
        return cls(cache_folder("engines", make=False))

    def find(self, key: str) -> tuple[CachedEngine | None, list[str]]:
        """The engine of that key, and warnings. An entry that is damaged is removed."""
        folder = self.folder / key
        if not folder.is_dir():
            return None, []
        try:
            return _read(folder), []
        except (EdgefelError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return None, [f"cached engine {key[:12]} was damaged and is built anew ({one_line(error)})"]

    def store(self, key: str, engine: Path, builder: dict[str, Any], layers: dict[str, Any]) -> list[str]:
        """Keeps a copy of the engine; returns warnings. A cache that cannot be written costs time, no engine."""
        try:
            with atomic_folder(self.folder / key, replace=True) as folder:
                shutil.copyfile(engine, folder / _ENGINE)
                entry = {"sha256": sha256(folder / _ENGINE), "builder": builder, "layers": layers}
                write_json(folder / _ENTRY, entry)
        except (EdgefelError, OSError) as error:
            return [f"the engine could not be cached ({one_line(error)})"]
        return []

    def timing_file(self, trt: ModuleType, gpu: Gpu | None) -> Path | None:
        """Where kernel timings of this package, version and GPU are kept; None where there are none.

        TensorRT for RTX times nothing: its timing caches are no-ops since 1.2, and before that they forced
        a build to have a GPU (its release notes of 1.1).
        """
        if gpu is None or trt.__name__ == "tensorrt_rtx":
            return None
        name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{trt.__name__} {trt.__version__} {gpu.name}")
        return self.folder / "timing" / f"{name}_sm{gpu.capability_text}.cache"


def engine_key(
    onnx_sha256: str, trt: ModuleType, gpu: Gpu | None, options: EngineOptions, kernels: str | None = None
) -> str:
    """Hex key of everything that the engine's bytes depend on; a GPU it was built without is None. kernels: SHA-256 of
    those in its plugins."""
    parts = {
        "format": _FORMAT,
        "edgefel": __version__,
        "onnx": onnx_sha256,
        "package": trt.__name__,
        "version": str(trt.__version__),
        "gpu": None if gpu is None else [gpu.name, gpu.capability_text],
        "options": options.to_dict(),
    }
    if kernels is not None:
        parts["kernels"] = kernels
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_timings(config: Any, path: Path | None) -> tuple[Any, list[str]]:
    """Gives the build the timings of earlier builds; returns TensorRT's cache, None without one, and warnings."""
    if path is None:
        return None, []
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        return None, [f"timing cache {path.name} could not be read ({error.strerror or error})"]
    cache = config.create_timing_cache(data)
    if cache is not None and config.set_timing_cache(cache, False):
        return cache, []
    # a cache of another driver or GPU of the same name: measuring again is right, reusing is not
    warnings = [f"timing cache {path.name} does not belong to this device and is written anew"]
    cache = config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, False):
        return None, warnings
    return cache, warnings


def save_timings(cache: Any, path: Path | None) -> list[str]:
    """Keeps the timings for the next build, whole or not at all; returns warnings."""
    if cache is None or path is None:
        return []
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(memoryview(cache.serialize()))
    except OSError as error:
        return [f"timing cache {path.name} could not be written ({error.strerror or error})"]
    return []


def _read(folder: Path) -> CachedEngine:
    entry = read_json(folder / _ENTRY)
    check_shape(entry, {"sha256": str, "builder": {"warnings?": [str]}, "layers": dict}, _ENTRY)
    if sha256(folder / _ENGINE) != entry.get("sha256"):
        raise EdgefelError("the engine's SHA-256 differs")
    return CachedEngine(folder / _ENGINE, entry["builder"], entry["layers"])
