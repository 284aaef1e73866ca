"""Tile sizes, warps and stages of a kernel: a small fixed space, timed once and cached on disk.

The cache is keyed by the kernel's source, the device, the versions and the problem. `EDGEFEL_AUTOTUNE=0` uses fixed
defaults, and so does `torch.use_deterministic_algorithms(True)`, since tile sizes decide the order of sums; the
folder is `edgefel.files.cache.cache_folder("tuning")`.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import torch

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.documents import check_fields, read_json
from edgefel.files.write import write_json
from edgefel.kernels.backend import interpreting


@dataclass(frozen=True)
class Launch:
    """Tile of queries and of keys, warps per program, stages of the load pipeline, and problems that a program
    solves side by side."""

    block_m: int
    block_n: int
    warps: int
    stages: int
    group: int = 1


# Runs one launch and returns its milliseconds; raises where the device cannot run it.
Measure = Callable[[Callable[[], None]], float]


def measure_on_gpu(run: Callable[[], None]) -> float:
    """Median milliseconds of `run` on the current device, cache flushed between calls."""
    from triton.testing import do_bench

    return float(do_bench(run, warmup=5, rep=20, return_mode="median"))


class Tuner:
    """Picks launches for one kernel.

    name: of the kernel, and of its file in the cache. source: a change of this text invalidates old results.
    """

    def __init__(self, name: str, source: str, measure: Measure = measure_on_gpu) -> None:
        self.name = name
        self._digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        self._measure = measure
        self._picked: dict[tuple[Any, ...], Launch] = {}
        self._known: dict[str, Launch] | None = None
        self._lock = RLock()

    @property
    def file(self) -> Path:
        """The kernel's cache file. Raises EdgefelError if its folder cannot be made."""
        return cache_folder("tuning") / f"{self.name}-{self._digest}.json"

    def pick(
        self,
        key: tuple[Any, ...],
        space: Sequence[Launch],
        default: Launch,
        run: Callable[[Launch], None],
        device: int = 0,
    ) -> Launch:
        """The fastest launch of `space` for the problem `key`; `default` where timing is off or impossible, or where
        PyTorch is to be deterministic.

        `run(launch)` executes the kernel on the current GPU, number `device`. Launches that it refuses are skipped;
        raises EdgefelError if it refuses all.
        """
        if torch.are_deterministic_algorithms_enabled():
            return default
        # at batch 1 a kernel takes microseconds: later calls must not build text, take locks or read settings
        problem = (device, *key)
        found = self._picked.get(problem)
        if found is not None:
            return found
        if not tuning_allowed():
            return default
        text = json.dumps([*_machine(device), *key])
        with self._lock:
            if self._known is None:
                self._known = self._read()
            if text not in self._known:
                if torch.cuda.is_current_stream_capturing():
                    return default  # a graph that is being captured cannot be timed
                self._known[text] = self._fastest(space, run)
                self._write(self._known)
            self._picked[problem] = self._known[text]
            return self._known[text]

    def _fastest(self, space: Sequence[Launch], run: Callable[[Launch], None]) -> Launch:
        times: dict[Launch, float] = {}
        reason = "the space is empty"
        for launch in space:
            try:
                times[launch] = self._measure(lambda launch=launch: run(launch))  # type: ignore[misc]
            except Exception as error:
                if not _is_refusal(error):
                    raise
                reason = str(error)
        if not times:
            raise EdgefelError(f"{self.name}: no launch of the tuning space runs on this device: {reason}")
        return min(times, key=lambda launch: times[launch])

    def _read(self) -> dict[str, Launch]:
        try:
            file = self.file
        except EdgefelError:
            return {}  # `_write` warns
        if not file.exists():
            return {}
        try:
            rows = read_json(file, {str: dict})
            return {key: Launch(**check_fields(row, Launch, key)) for key, row in rows.items()}
        except (EdgefelError, TypeError, AttributeError) as error:
            warnings.warn(f"{file}: ignored, it is not a tuning file ({error})", stacklevel=2)
            return {}

    def _write(self, known: dict[str, Launch]) -> None:
        # another process may have added results since this one read the file
        merged = self._read() | known
        try:
            write_json(self.file, {key: asdict(value) for key, value in merged.items()})
        except (OSError, EdgefelError) as error:
            warnings.warn(f"{self.name}: tuning results are not kept ({error})", stacklevel=2)


def tuning_allowed() -> bool:
    """Whether launches may be timed: a GPU is there, and EDGEFEL_AUTOTUNE is not 0."""
    return os.environ.get("EDGEFEL_AUTOTUNE", "1") != "0" and torch.cuda.is_available() and not interpreting()


def _is_refusal(error: Exception) -> bool:
    """Whether the device lacks the registers, shared memory or threads that a launch needs."""
    from triton.runtime.errors import OutOfResources, PTXASError

    return isinstance(error, OutOfResources | PTXASError)


@lru_cache(maxsize=16)
def _machine(device: int) -> tuple[str, ...]:
    import triton

    capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
    return torch.cuda.get_device_name(device), capability, torch.__version__, triton.__version__
