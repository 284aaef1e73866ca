"""The files of a bundle in every available backend: opened, compared, and their memory measured."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.results import Measured, check_counts, check_names
from edgefel.bench.timer import opencv_threads
from edgefel.data.preprocessing import Image
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, Array
from edgefel.runtime.manifest import ENGINE_FORMATS, PRECISIONS, BundleFile, Manifest, read_manifest
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
class BundleOptions:
    """What of a bundle is measured.

    backends, precisions: names, or None for all; a named one that cannot be measured is an error. force: measure files
    that failed their comparison with PyTorch, or were changed. batches: faces of one call. threads: CPU threads of one
    call, one run for each number. Raises EdgefelError for unknown names, none, and numbers below 1.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    force: bool = False
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        check_names("backend", self.backends, BACKENDS)
        check_names("precision", self.precisions, PRECISIONS)
        check_counts(batches=self.batches, threads=self.threads)


@dataclass(frozen=True)
class OpenBundle:
    """Open sessions on so many CPU threads, and why others are skipped, by backend or file."""

    manifest: Manifest
    threads: int
    sessions: Mapping[Key, Session]
    skipped: Mapping[str, str]

    def subject(self, key: Key, batch: int) -> dict[str, Any]:
        """A row's subject."""
        return {"model": self.manifest.model.name, **key._asdict(), "batch": batch, "threads": self.threads}

    def inputs(self, count: int) -> Array:
        """Synthetic faces as the input of `Session.run`: float32 [N, 3, H, W], or uint8 [N, H, W, 3]."""
        preprocessing = self.manifest.preprocessing
        make = preprocessing.pixel_batch if self.manifest.input_type == "uint8" else preprocessing.batch
        return make(faces(count))


def bench_bundle(
    kind: str,
    folder: str | os.PathLike[str],
    options: BundleOptions,
    measure: Callable[[OpenBundle], Iterable[Found]],
) -> Measured:
    """Rows of what `measure` finds in a bundle, which is opened for each number of threads.

    The rows have the deviation of the outputs, which are compared before `measure` is called. Raises EdgefelError as
    `open_bundle` and `check_outputs` do.
    """
    skipped: dict[str, str] = {}

    def found() -> Iterator[Found]:
        for threads in options.threads:
            with open_bundle(folder, options, threads) as opened, opencv_threads(threads):
                skipped.update(opened.skipped)
                deviations = check_outputs(opened)
                for subject, metrics, notes in measure(opened):
                    if deviations is None:
                        yield subject, metrics, [*notes, NOT_COMPARED]
                    else:
                        key = Key(subject["precision"], subject["backend"])
                        yield subject, {**metrics, "largest_deviation": deviations[key]}, notes

    return Measured(measured_rows(kind, found()), skipped)


@contextmanager
def open_bundle(folder: str | os.PathLike[str], options: BundleOptions, threads: int) -> Iterator[OpenBundle]:
    """Opens every selected file of a bundle in every available backend; closes them at the end.

    A batch is run in one piece unless an engine takes less. Raises EdgefelError for an unreadable bundle, an
    unavailable backend or precision that is named, and where nothing can be measured.
    """
    manifest = read_manifest(folder)
    with ExitStack() as stack:
        sessions: dict[Key, Session] = {}
        skipped: dict[str, str] = {}
        files = _usable(manifest, options, skipped)
        for name in options.backends or BACKENDS:
            own = [file for file in files if file.kind == BACKENDS[name].kind]
            try:
                if (reason := _unavailable_reason(name, own, manifest, options)) is not None:
                    raise EdgefelError(f"{manifest.folder}: backend {name} cannot run it here: {reason}")
                for file in own:
                    if (reason := BACKENDS[name].load().unavailable_reason(file)) is not None:
                        skipped[f"{file.name} by {name}"] = reason
                        continue
                    session = Session.open(
                        folder,
                        file.precision,
                        name,
                        threads,
                        options.force,
                        max_batch=max(options.batches),
                        advise=False,
                    )
                    sessions[Key(file.precision, name)] = stack.enter_context(session)
            except EdgefelError as error:
                if options.backends is not None:
                    raise
                skipped[name] = reason or str(error)
        if not sessions:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise EdgefelError(f"{manifest.folder}: nothing of it can be measured here: {reasons}")
        yield OpenBundle(manifest, threads, sessions, skipped)


def _usable(manifest: Manifest, options: BundleOptions, skipped: dict[str, str]) -> list[BundleFile]:
    """The selected files without those that failed their comparison, which go to `skipped`."""
    there = dict.fromkeys(file.precision for file in manifest.files)
    for precision in options.precisions or ():
        if precision not in there:
            raise EdgefelError(f"{manifest.folder}: holds no {precision} file, only {', '.join(there)}")
    files = []
    for file in manifest.files:
        if file.precision not in (options.precisions or there):
            continue
        if file.kind == "onnx" and file.precision in ENGINE_FORMATS:
            skipped[file.name] = "it is for TensorRT alone; 'edgefel engine' builds an engine of it"
            continue
        try:
            if not options.force:
                manifest.check_verdict(file)
        except EdgefelError as error:
            if options.precisions is not None:
                raise
            skipped[file.name] = str(error)
            continue
        manifest.verify(file, force=options.force)
        files.append(file)
    return files


def _unavailable_reason(
    name: str, files: Sequence[BundleFile], manifest: Manifest, options: BundleOptions
) -> str | None:
    """Why a backend has nothing to run here, in one line; None if it has."""
    kind = BACKENDS[name].kind
    if not files:
        what = "engine" if kind == "engine" else "ONNX file"
        those = "" if options.precisions is None else f" of {', '.join(options.precisions)}"
        lacking = all(file.kind != kind for file in manifest.files)
        return f"the bundle holds no {what}{those}" + ("" if lacking else " that may be measured")
    backend = BACKENDS[name].load()
    reasons = [backend.unavailable_reason(file) for file in files]
    if None not in reasons:
        return reasons[0]
    if options.backends is None and not BACKENDS[name].auto:
        return f"it builds engines of its own for minutes; name it with --backend {name} to have it measured"
    return None


def faces(count: int, size: int = 224) -> list[Image]:
    """Synthetic face crops, uint8 RGB [size, size, 3], of every class in turn; always the same ones."""
    rendered = SyntheticFaces(FaceOptions(count=COMPARED_FACES, size=size, seed=1))
    different = [rendered.sample(index).image for index in range(min(count, COMPARED_FACES))]
    return list(islice(cycle(different), count))


def check_outputs(opened: OpenBundle) -> dict[Key, float] | None:
    """The largest difference of every session's probabilities of synthetic faces from ONNX Runtime's FP32 file.

    None where the bundle has no such file. Raises EdgefelError for a difference that the precision does not explain.
    """
    batch = opened.inputs(COMPARED_FACES)
    reference = _reference(opened, batch)
    if reference is None:
        return None
    deviations = {}
    for key, session in opened.sessions.items():
        difference = np.abs(session.run(batch).probabilities - reference)
        largest, distance = float(difference.max()), float(difference.sum(1).mean()) / 2
        if distance > LARGEST_MEAN_DISTANCE or largest > LARGEST_DEVIATION.get(key.precision, math.inf):
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
    with Session.open(opened.manifest.folder, *REFERENCE, force=True, advise=False) as session:
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
from edgefel.runtime.session import Session
folder, precision, backend, threads, batch = sys.argv[1:]
with Session.open(folder, precision, backend, int(threads), True, max_batch=int(batch), advise=False) as session:
    session.warm_up(batches=[int(batch)])
"""


def own_peak_mb() -> float:
    """Most resident memory that this process ever held, in 10^6 bytes."""
    # Not ru_maxrss on Linux: a process that replaces a forked one begins with the peak of its parent, which holds every
    # model of the bench (exec_mmap in fs/exec.c keeps it).
    from pathlib import Path

    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6
