"""Chooses the backend and the file that run a bundle, and records why the others were rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile, backend_entry
from edgefel.runtime.engines import described
from edgefel.runtime.manifest import ENGINE_FORMATS, PRECISIONS, BundleFile, Manifest
from edgefel.runtime.shipped import engine_command

AUTO = "auto"
# Fastest first, as measured on CPUs (docs/runtime.md, "How fast"; docs/results/latency-2core.jsonl and
# compare-2core.jsonl): networks of 1 GMAC and more, then smaller ones, whose INT8 files ONNX Runtime spends more time
# converting for than it saves. Nothing has been measured on a GPU: FP16 comes first there, which is nearly exact.
_LARGE = {
    "tensorrt": ("fp16", "int8+fp16", "fp32", "int8"),
    "onnxruntime-tensorrt": ("fp16", "int8+fp16", "fp32", "int8"),
    "onnxruntime-cuda": ("fp16", "fp32", "int8+fp16", "int8"),
    "openvino": ("int8+fp16", "int8", "fp16", "fp32"),
    "onnxruntime": ("int8", "fp32", "fp16", "int8+fp16"),
}
_SMALL = {
    **_LARGE,
    "openvino": ("fp16", "int8+fp16", "fp32", "int8"),
    "onnxruntime": ("fp32", "fp16", "int8", "int8+fp16"),
}
_SMALL_GMAC = 1.0
_NEARLY_EXACT = ("fp32", "fp16")  # files that need not have passed a comparison to be trusted
_LINE = 100
_log = logging.getLogger("edgefel.runtime")


@dataclass(frozen=True)
class Choice:
    """The selected backend.

    skipped: the backends before it in the order, each with a one-line reason. asked: the user named it, so no other
    was tried. others: files that this backend could also run, with the reason against each, if no precision was named.
    """

    backend: str
    skipped: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """One line for people, such as "openvino (not tensorrt: the bundle holds no engine)"."""
        if self.asked:
            return f"{self.backend} (asked for)"
        reasons = "; ".join(self.reasons[: len(self.skipped)])
        return f"{self.backend} ({reasons})" if reasons else self.backend

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not the other backends and files, one line each."""
        rejected = (*self.skipped.items(), *self.others.items())
        return tuple(f"not {name}: {reason}" for name, reason in rejected)

    def headline(self, file: BundleFile) -> str:
        """The file and the backend in at most 100 characters, such as
        "model.fp16.onnx by openvino (not tensorrt; -v says why)"."""
        ends = [" (asked for)"] if self.asked else [""]
        if self.reasons and not self.asked:
            ends = [" (-v says why)", ""]
            if self.skipped:
                ends.insert(0, f" (not {', '.join(self.skipped)}; -v says why)")
        for end in ends:
            if len(line := f"{file.name} by {self.backend}{end}") <= _LINE:
                return line
        kept = _LINE - len(f"... by {self.backend}")
        return f"{file.name[:kept]}... by {self.backend}"


@dataclass(frozen=True)
class Opened:
    """A backend with its file loaded."""

    choice: Choice
    file: BundleFile
    runner: Backend


def preferred(
    manifest: Manifest, files: Iterable[BundleFile], backend: str, *, force: bool = False
) -> list[BundleFile]:
    """These files of the bundle in the order in which that backend should take them, best first.

    The faster before the slower, and last INT8 files that did not plainly pass their comparison with PyTorch: what INT8
    does to labels must have been judged. Files that failed are left out; with `force` they come at the very end.
    """
    fastest = (_SMALL if manifest.model.gmac < _SMALL_GMAC else _LARGE).get(backend, PRECISIONS)
    order = (*fastest, *ENGINE_FORMATS)  # the speed of these has not been measured

    def rank(file: BundleFile) -> tuple[int, int]:
        verdict = manifest.judged(file).verdict
        trusted = verdict == "pass" or file.precision in _NEARLY_EXACT
        return (2 if verdict == "fail" else 0 if trusted else 1), order.index(file.precision)

    return sorted((file for file in files if force or rank(file)[0] < 2), key=rank)


def best_file(
    manifest: Manifest, files: Sequence[BundleFile], backend: str, *, force: bool = False
) -> BundleFile:
    """The first of `preferred`. Raises EdgefelError where all of `files`, of which there is at least one, failed
    their comparison with PyTorch."""
    ranked = preferred(manifest, files, backend, force=force)
    if not ranked:
        manifest.check_verdict(files[0])
    return ranked[0]


def open_backend(
    manifest: Manifest,
    precision: str | None,
    backend: str,
    threads: int,
    check: Callable[[ModelFile], None],
    *,
    force: bool = False,
) -> Opened:
    """Loads a file of the bundle in the named backend, or with "auto" in the first that can run it.

    precision: of the file; by default the best that the backend can run, see `preferred`. check: called with a file
    before it is loaded; an error it raises ends the search, because a broken bundle must not be used in another way.
    "auto" skips a backend that fails to load its file or to run it once, and logs a warning.
    Raises EdgefelError: an unknown backend or precision, no such file, only files that failed their comparison
    (without `force`), a named backend that cannot be used here, or no backend that can.
    """
    named = backend != AUTO
    names = [backend] if named else _tried_by_auto()
    kinds = [backend_entry(name).kind for name in names]
    if precision is not None and precision not in PRECISIONS:
        raise EdgefelError(f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
    files = [file for kind in kinds for file in _files(manifest, kind, precision)]
    if not files:
        raise _no_file(manifest, precision, names)
    skipped: dict[str, str] = {}
    broken: list[str] = []  # looked usable
    failure: EdgefelError | None = None
    for name, file, others in _candidates(manifest, names, precision, force, skipped):
        model = ModelFile.of(manifest, file)
        check(model)
        try:
            runner = _open(name, model, threads, trial=not named and name != names[-1])
        except EdgefelError as error:
            if named:
                raise
            failure, skipped[name] = error, str(error)
            broken.append(name)
        else:
            for one in broken:
                _log.warning("backend %s is passed over: %s", one, skipped[one])
            return Opened(Choice(name, skipped, named, others), file, runner)
    if failure is not None:
        raise failure
    if all(manifest.judged(file).verdict == "fail" for file in files):
        manifest.check_verdict(files[0])
    if named:
        raise EdgefelError(f"{manifest.folder}: backend {backend} cannot run it here: {skipped[backend]}")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    raise EdgefelError(f"{manifest.folder}: no backend can run it here: {reasons}")


def first_choice(manifest: Manifest) -> str | None:
    """The backend that "auto" would try first here; None if it has nothing to try. Loads nothing."""
    candidates = _candidates(manifest, _tried_by_auto(), None, False, {})
    return next((name for name, _, _ in candidates), None)


def _tried_by_auto() -> list[str]:
    return [name for name, entry in BACKENDS.items() if entry.auto]


def _candidates(
    manifest: Manifest, names: Iterable[str], precision: str | None, force: bool, skipped: dict[str, str]
) -> Iterator[tuple[str, BundleFile, dict[str, str]]]:
    """The backends that may be able to run a file, the best file of each, and why not its other files.

    skipped: gets the reason against each of the others.
    """
    for name in names:
        kind = BACKENDS[name].kind
        there = _files(manifest, kind, precision)
        # a precision that was named is taken, or refused by its verdict
        ranked = preferred(manifest, there, name, force=force or precision is not None)
        others = {file.name: "it failed its comparison with PyTorch" for file in there if file not in ranked}
        reasons: dict[str, str] = {}
        for number, file in enumerate(ranked):
            if (reason := _unavailable_reason(name, file)) is None:
                rest = {other.name: _less(manifest, other) for other in ranked[number + 1 :]}
                yield name, file, {**reasons, **rest, **others}
                break
            reasons[file.name] = reason
        else:
            failed = f"{', '.join(others)}: failed the comparison with PyTorch"
            none_left = failed if others else _no_file_reason(manifest, kind, precision)
            skipped[name] = next(iter(reasons.values()), none_left)


def _less(manifest: Manifest, file: BundleFile) -> str:
    verdict = manifest.judged(file).verdict
    if verdict == "pass" or file.precision in _NEARLY_EXACT:
        return "it comes later in the order of this backend"
    return (
        "it passed its comparison with warnings" if verdict == "warn" else "it was not compared with PyTorch"
    )


def _unavailable_reason(backend: str, file: BundleFile) -> str | None:
    if file.precision in ENGINE_FORMATS and BACKENDS[backend].kind == "onnx":
        return f"{file.name}: is for TensorRT alone; build an engine of it with 'edgefel engine'"
    try:
        return BACKENDS[backend].load().unavailable_reason(file)
    except EdgefelError as error:
        return str(error)
    except Exception as error:  # of a package that is broken in a way that nobody has met yet
        return f"{file.name}: {backend} does not work here ({described(error)}); run 'edgefel doctor'"


def _open(backend: str, model: ModelFile, threads: int, *, trial: bool) -> Backend:
    """Loads the file; with `trial`, also runs it once, since what is broken in CUDA may show only then.

    Raises EdgefelError whatever the backend's packages raise.
    """
    try:
        runner = BACKENDS[backend].load().open(model, threads=threads)
        if trial:
            try:
                runner.run(np.zeros((1, *model.image_shape), model.dtype))
            except BaseException:
                with suppress(Exception):
                    runner.close()
                raise
    except EdgefelError:
        raise
    except Exception as error:
        raise EdgefelError(
            f"{model.path}: {backend} fails ({described(error)}); run 'edgefel doctor', or choose another --backend"
        ) from error
    return runner


def _files(manifest: Manifest, kind: str, precision: str | None) -> list[BundleFile]:
    """The files of that kind and, where one is named, of that precision."""
    return [file for file in manifest.files if file.kind == kind and precision in (None, file.precision)]


def _no_file_reason(manifest: Manifest, kind: str, precision: str | None) -> str:
    there = [file.precision for file in manifest.files if file.kind == kind]
    what = "engine" if kind == "engine" else "ONNX file"
    if not there:
        return f"the bundle holds no {what}"
    return f"the bundle holds no {precision} {what}, only {', '.join(there)}"


def _no_file(manifest: Manifest, precision: str | None, names: list[str]) -> EdgefelError:
    only_engines = all(BACKENDS[name].kind == "engine" for name in names)
    if only_engines and not any(file.kind == "engine" for file in manifest.files):
        return EdgefelError(
            f"{manifest.folder}: holds no engine, which {', '.join(names)} runs; build one on the device with: "
            f"{engine_command(manifest.folder)}"
        )
    files = ", ".join(f"{file.name} ({file.precision})" for file in manifest.files) or "no files"
    wanted = f"no {precision} file" if precision else "no file"
    return EdgefelError(
        f"{manifest.folder}: {wanted} for {', '.join(names)}; the bundle holds {files}. "
        f"Choose a precision from these, or export again"
    )
