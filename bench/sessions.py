"""The files of a bundle in every available backend: opened, compared, and their memory measured."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from edgefel.bench.results import check_names
from edgefel.data.preprocessing import Image
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, Array, backend_entry
from edgefel.runtime.manifest import PRECISIONS, BundleFile, Manifest, read_manifest
from edgefel.runtime.session import Session
from edgefel.text import one_line

# Largest difference of one probability from the reference's that rounding explains. What INT8 does to a single face is
# no measure of it (the manifest's verdict is); a file that computes something else is away on most of them.
LARGEST_DEVIATION = {"fp32": 1e-4, "fp16": 0.05}
# half the sum of absolute differences of a face's probabilities (total variation), mean over faces
LARGEST_MEAN_DISTANCE = 0.25
COMPARED_FACES = 14
MEMORY_TIMEOUT = 600.0
# the note of rows whose bundle has nothing to compare with
NOT_COMPARED = "the bundle has no FP32 ONNX file: outputs were not compared"


class Key(NamedTuple):
    """Which file, in what."""

    precision: str
    backend: str

    def __str__(self) -> str:
        return f"{self.precision} {self.backend}"


REFERENCE = Key("fp32", "onnxruntime")


@dataclass(frozen=True)
class Selection:
    """Which files of a bundle are measured in which backends.

    backends, precisions: names, or None for all; a named one that cannot be measured is an error. force:
    measure files that failed their comparison with PyTorch, or were changed. Raises EdgefelError for unknown
    names, and for none.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.backends == () or self.precisions == ():
            raise EdgefelError(
                "no backend or no precision is named; name one, or leave the option out for all"
            )
        for name in self.backends or ():
            backend_entry(name)
        check_names("precision", self.precisions or (), PRECISIONS)


@dataclass(frozen=True)
class OpenBundle:
    """Open sessions, and why others are skipped, by backend or file."""

    manifest: Manifest
    sessions: Mapping[Key, Session]
    skipped: Mapping[str, str]


@contextmanager
def open_bundle(
    folder: str | os.PathLike[str], selection: Selection, *, threads: int, max_batch: int
) -> Iterator[OpenBundle]:
    """Opens every selected file of a bundle in every available backend; closes them at the end.

    threads: of one call. max_batch: largest batch, run in one piece unless an engine takes less. Raises EdgefelError
    for an unreadable bundle, an unavailable backend or precision that is named, and where nothing can be measured.
    """
    manifest = read_manifest(folder)
    with ExitStack() as stack:
        sessions: dict[Key, Session] = {}
        skipped: dict[str, str] = {}
        files = _usable(manifest, selection, skipped)
        for name in BACKENDS if selection.backends is None else selection.backends:
            own = [file for file in files if file.kind == BACKENDS[name].kind]
            try:
                if (reason := _unavailable_reason(name, own, manifest, selection)) is not None:
                    raise EdgefelError(f"{manifest.folder}: backend {name} cannot run it here: {reason}")
                for file in own:
                    session = Session.open(
                        folder, file.precision, name, threads, selection.force, max_batch=max_batch
                    )
                    sessions[Key(file.precision, name)] = stack.enter_context(session)
            except EdgefelError as error:
                if selection.backends is not None:
                    raise
                skipped[name] = reason or str(error)
        if not sessions:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise EdgefelError(f"{manifest.folder}: nothing of it can be measured here: {reasons}")
        yield OpenBundle(manifest, sessions, skipped)


def _usable(manifest: Manifest, selection: Selection, skipped: dict[str, str]) -> list[BundleFile]:
    """The selected files without those that failed their comparison, which go to `skipped`."""
    files = []
    for precision in selection.precisions or ():
        if all(file.precision != precision for file in manifest.files):
            there = ", ".join(dict.fromkeys(file.precision for file in manifest.files))
            raise EdgefelError(f"{manifest.folder}: holds no {precision} file, only {there}")
    for file in manifest.files:
        if selection.precisions is not None and file.precision not in selection.precisions:
            continue
        try:
            if not selection.force:
                manifest.check_verdict(file)
        except EdgefelError as error:
            if selection.precisions is not None:
                raise
            skipped[file.name] = str(error)
            continue
        manifest.verify(file, force=selection.force)
        files.append(file)
    return files


def _unavailable_reason(
    name: str, files: Sequence[BundleFile], manifest: Manifest, selection: Selection
) -> str | None:
    """Why a backend has nothing to run here, in one line; None if it has."""
    kind = BACKENDS[name].kind
    if not files:
        what = "engine" if kind == "engine" else "ONNX file"
        those = "" if selection.precisions is None else f" of {', '.join(selection.precisions)}"
        lacking = all(file.kind != kind for file in manifest.files)
        return f"the bundle holds no {what}{those}" + ("" if lacking else " that may be measured")
    if (reason := BACKENDS[name].load().unavailable_reason(files[0])) is not None:
        return reason
    if selection.backends is None and not BACKENDS[name].auto:
        return f"it builds engines of its own for minutes; name it with --backend {name} to have it measured"
    return None


def subject_of(opened: OpenBundle, key: Key) -> dict[str, Any]:
    """A row's subject, without batch and threads."""
    return {"model": opened.manifest.model.name, "precision": key.precision, "backend": key.backend}


def faces(count: int, size: int = 224) -> list[Image]:
    """Synthetic face crops, uint8 RGB [size, size, 3], of every class in turn; always the same ones."""
    rendered = SyntheticFaces(FaceOptions(count=COMPARED_FACES, size=size, seed=1))
    different = [rendered.sample(index).image for index in range(min(count, COMPARED_FACES))]
    return list(islice(cycle(different), count))


def prepare(manifest: Manifest, crops: Sequence[Image]) -> Array:
    """The crops as the input of `Session.run`: float32 [N, 3, H, W], or uint8 [N, H, W, 3]."""
    preprocessing = manifest.preprocessing
    make = preprocessing.pixel_batch if manifest.input_type == "uint8" else preprocessing.batch
    return make(crops)


def check_outputs(opened: OpenBundle) -> dict[Key, float] | None:
    """The largest difference of every session's probabilities of synthetic faces from ONNX Runtime's FP32 file.

    None where the bundle has no such file. Raises EdgefelError for a difference that the precision does not explain.
    """
    batch = prepare(opened.manifest, faces(COMPARED_FACES))
    reference = _reference(opened, batch)
    if reference is None:
        return None
    deviations = {}
    for key, session in opened.sessions.items():
        difference = np.abs(session.run(batch).probabilities - reference)
        largest, distance = float(difference.max()), float(difference.sum(1).mean()) / 2
        limit = LARGEST_DEVIATION.get(key.precision)
        if distance > LARGEST_MEAN_DISTANCE or (limit is not None and largest > limit):
            raise EdgefelError(
                f"{opened.manifest.folder}: {key.backend} computes something else of the {key.precision} file: "
                f"its probabilities are up to {largest:.1e} from ONNX Runtime's of FP32, {distance:.2f} of a face's "
                "whole on average; nothing was timed. Export again, or choose another backend"
            )
        deviations[key] = round(largest, 7)
    return deviations


def _reference(opened: OpenBundle, batch: Array) -> Array | None:
    if REFERENCE in opened.sessions:
        return opened.sessions[REFERENCE].run(batch).probabilities
    if all((file.precision, file.kind) != (REFERENCE.precision, "onnx") for file in opened.manifest.files):
        return None
    with Session.open(opened.manifest.folder, *REFERENCE, force=True) as session:
        return session.run(batch).probabilities


def peak_memory_mb(session: Session, batch: int) -> float:
    """Peak resident memory, in 10^6 bytes, of a fresh process that opens the session's file and runs a batch.

    It includes the interpreter and the runtime's imports, not those of the benches: what a device needs.
    Raises EdgefelError if the process fails.
    """
    arguments = (session.manifest.folder, session.precision, session.backend, session.threads, batch)
    return fresh_process_memory_mb(_MEMORY_OF_SESSION, arguments)


def fresh_process_memory_mb(code: str, arguments: Sequence[object]) -> float:
    """Peak resident memory, in 10^6 bytes, of a process of its own that runs Python code."""
    # own_peak_mb by its source, since importing this module would import what the benches need
    begin = f"from edgefel.workers import end_with; end_with({os.getpid()})"
    code = f"{begin}\n{code}\n{inspect.getsource(own_peak_mb)}\nprint(own_peak_mb())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=MEMORY_TIMEOUT, check=True)
        return float(found.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {error.returncode}"
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        reason = one_line(error)
    raise EdgefelError(f"peak memory was not measured: {reason}")


_MEMORY_OF_SESSION = """
import sys
import numpy as np
from edgefel.runtime.session import Session
from edgefel.text import one_line
folder, precision, backend, threads, batch = sys.argv[1:]
with Session.open(folder, precision, backend, int(threads), True, max_batch=int(batch)) as session:
    session.warm_up(batches=[int(batch)])
"""


def own_peak_mb() -> float:
    """Most resident memory that this process ever held, in 10^6 bytes."""
    # Not ru_maxrss on Linux: a process that replaces a forked one begins with the peak of its parent, which holds every
    # model of the bench (exec_mmap in fs/exec.c keeps it).
    from pathlib import Path

    status = Path("/proc/self/status")
    if status.is_file():
        return next(
            int(line.split()[1]) * 1024 / 1e6
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM:")
        )
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6
