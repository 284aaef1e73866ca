"""Chooses the backend and the file that run a bundle, and records why the others were rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile, backend_entry
from edgefel.runtime.backends.speeds import NEARLY_EXACT, Speeds
from edgefel.runtime.engines import described
from edgefel.runtime.manifest import ENGINE_FORMATS, PRECISIONS, BundleFile, Manifest
from edgefel.runtime.shipped import engine_command

AUTO = "auto"
_LINE = 100
_log = logging.getLogger("edgefel.runtime")


@dataclass(frozen=True)
class Choice:
    """The selected backend.

    skipped: the backends before it in the order, each with a one-line reason. asked: the user named it, so no other
    was tried. others: files that this backend could also run, if no precision was named, and slower backends, with the
    reason against each. basis: why this was taken, in one line. slower: a warning that FP32 is faster, None otherwise.
    """

    backend: str
    skipped: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False
    others: Mapping[str, str] = field(default_factory=dict)
    basis: str = field(default="", compare=False)
    slower: str | None = field(default=None, compare=False)

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
    manifest: Manifest,
    files: Iterable[BundleFile],
    backend: str,
    *,
    force: bool = False,
    speeds: Speeds | None = None,
) -> list[BundleFile]:
    """These files of the bundle in the order in which that backend should take them, best first (`Speeds.key`).

    speeds: of this machine; by default those of the rules, for a machine that is not this one. Files that failed their
    comparison with PyTorch are left out; with `force` they come at the very end.
    """
    speeds = speeds or Speeds(manifest, 1)
    there = [file for file in files if force or manifest.judged(file).verdict != "fail"]
    return sorted(there, key=lambda file: speeds.key(backend, file))


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
    """Loads a file of the bundle in the named backend, or with "auto" in the fastest that can run it.

    precision: of the file; by default the best that the backend can run, see `Speeds`. check: called with a file
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
    speeds = Speeds.here(manifest, threads)
    for name, file, others, last in _candidates(speeds, names, precision, force, skipped):
        model = ModelFile.of(manifest, file)
        check(model)
        try:
            runner = _open(name, model, threads, trial=not last)
        except EdgefelError as error:
            if named:
                raise
            failure, skipped[name] = error, str(error)
            broken.append(name)
        else:
            for one in broken:
                _log.warning("backend %s is passed over: %s", one, skipped[one])
            basis = "asked for" if named and precision is not None else speeds.basis(name, file)
            slower = _slower(speeds, name, file)
            return Opened(Choice(name, skipped, named, others, basis, slower), file, runner)
    if failure is not None:
        raise failure
    if all(manifest.judged(file).verdict == "fail" for file in files):
        manifest.check_verdict(files[0])
    if named:
        raise EdgefelError(f"{manifest.folder}: backend {backend} cannot run it here: {skipped[backend]}")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    raise EdgefelError(f"{manifest.folder}: no backend can run it here: {reasons}")


def first_choice(manifest: Manifest, threads: int) -> str | None:
    """The backend that "auto" would try first here; None if it has nothing to try. Loads nothing."""
    candidates = _candidates(Speeds.here(manifest, threads), _tried_by_auto(), None, False, {})
    return next((name for name, *_ in candidates), None)


def _slower(speeds: Speeds, backend: str, file: BundleFile) -> str | None:
    """The warning of `Speeds.slower`, which looks at what `auto` could take here instead."""
    if speeds.ms(backend, file) is None:
        return None
    able = _ranked(speeds, _tried_by_auto(), None, force=False)
    # the first that can, of all and of the FP32 files; what is installed is looked at only as far as needed
    possible = [pair for pair in able if speeds.ms(*pair) is not None]
    fastest = next((pair for pair in possible if _unavailable_reason(*pair) is None), (backend, file))
    exact = [pair for pair in possible if pair[1].precision == "fp32"]
    fp32 = next((pair for pair in exact if _unavailable_reason(*pair) is None), None)
    return speeds.slower(backend, file, fastest, fp32)


def _tried_by_auto() -> list[str]:
    return [name for name, entry in BACKENDS.items() if entry.auto]


def _ranked(
    speeds: Speeds, names: Iterable[str], precision: str | None, *, force: bool
) -> list[tuple[str, BundleFile]]:
    """Every backend with every file of its kind, the pair to take first at the front."""
    manifest = speeds.manifest
    pairs = [
        (name, file)
        for name in names
        for file in preferred(
            manifest, _files(manifest, BACKENDS[name].kind, precision), name, force=force, speeds=speeds
        )
    ]
    return sorted(pairs, key=lambda pair: speeds.key(*pair))


def _candidates(
    speeds: Speeds, names: Sequence[str], precision: str | None, force: bool, skipped: dict[str, str]
) -> Iterator[tuple[str, BundleFile, dict[str, str], bool]]:
    """The backends that may be able to run a file, the fastest first, the best file of each, why not its other files
    and the slower backends, and whether none is left after it.

    skipped: gets the reason against each of the backends before it, and of those without a file.
    """
    manifest = speeds.manifest
    # a precision that was named is taken, or refused by its verdict
    pairs = _ranked(speeds, names, precision, force=force or precision is not None)
    against: dict[str, dict[str, str]] = {}
    for name in names:
        there = _files(manifest, BACKENDS[name].kind, precision)
        ranked = [file for other, file in pairs if other == name]
        against[name] = {
            file.name: "it failed its comparison with PyTorch" for file in there if file not in ranked
        }
        if not ranked:
            failed = f"{', '.join(against[name])}: failed the comparison with PyTorch"
            skipped[name] = failed if there else _no_file_reason(manifest, BACKENDS[name].kind, precision)
    reasons: dict[str, dict[str, str]] = {name: {} for name in names}
    tried: set[str] = set()
    for number, (name, file) in enumerate(pairs):
        if name in tried:
            continue
        rest = pairs[number + 1 :]
        if (reason := _unavailable_reason(name, file)) is None:
            tried.add(name)
            less = {other.name: _less(speeds, name, other) for own, other in rest if own == name}
            later = dict(reversed([pair for pair in rest if pair[0] not in tried]))
            behind = {own: f"{one.name}: {_less(speeds, own, one)}" for own, one in reversed(later.items())}
            yield name, file, {**reasons[name], **less, **against[name], **behind}, not later
        else:
            reasons[name][file.name] = reason
            if name not in (own for own, _ in rest):
                skipped[name] = next(iter(reasons[name].values()))


def _less(speeds: Speeds, backend: str, file: BundleFile) -> str:
    verdict = speeds.manifest.judged(file).verdict
    if verdict == "pass" or file.precision in NEARLY_EXACT:
        ms = None if speeds.measured is None else speeds.ms(backend, file)
        return "it comes later in the order" if ms is None else f"it takes {ms:.3g} ms here"
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
