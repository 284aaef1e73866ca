"""Which backend runs a bundle here, and why not the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile, backend_entry
from edgefel.runtime.manifest import PRECISIONS, BundleFile, Manifest

AUTO = "auto"
_log = logging.getLogger("edgefel.runtime")


@dataclass(frozen=True)
class Choice:
    """The backend that was taken. skipped: the backends that come before it, and the reason against each, in
    one line. asked: it was named, and no other was tried."""

    backend: str
    skipped: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False

    @property
    def why(self) -> str:
        """One line for people, such as "openvino (not tensorrt: the bundle holds no engine)"."""
        if self.asked:
            return f"{self.backend} (asked for)"
        reasons = "; ".join(f"not {name}: {reason}" for name, reason in self.skipped.items())
        return f"{self.backend} ({reasons})" if reasons else self.backend


@dataclass(frozen=True)
class Opened:
    """A backend with its file loaded."""

    choice: Choice
    file: BundleFile
    runner: Backend


def open_backend(
    manifest: Manifest,
    precision: str | None,
    backend: str,
    threads: int,
    check: Callable[[ModelFile], None],
) -> Opened:
    """Loads a file of the bundle in the backend of that name, or with "auto" in the first that can.

    check: called with a file before it is loaded; what it raises ends the search, since a bundle that is broken
    should not be used in another way. A backend that looks usable and fails to load its file is skipped by
    "auto" with a warning in the log.
    Raises EdgefelError: an unknown backend or precision, no such file, a named backend that cannot be used here,
    or no backend that can.
    """
    named = backend != AUTO
    names = [backend] if named else [name for name, entry in BACKENDS.items() if entry.auto]
    kinds = {name: backend_entry(name).kind for name in names}
    if precision is not None and precision not in PRECISIONS:
        raise EdgefelError(f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
    files = {name: _pick(manifest, kind, precision) for name, kind in kinds.items()}
    if all(file is None for file in files.values()):
        raise _no_file(manifest, precision, names)
    skipped: dict[str, str] = {}
    failure: EdgefelError | None = None
    for name, file in files.items():
        if file is None:
            skipped[name] = _no_file_reason(manifest, kinds[name], precision)
            continue
        kind = BACKENDS[name].load()
        if (obstacle := kind.obstacle(file)) is not None:
            skipped[name] = obstacle
            continue
        model = ModelFile.of(manifest, file)
        check(model)
        try:
            runner = kind.open(model, threads=threads)
        except EdgefelError as error:
            if named:
                raise
            failure, skipped[name] = error, str(error)
            _log.warning("backend %s is passed over: %s", name, error)
        else:
            return Opened(Choice(name, skipped, named), file, runner)
    if failure is not None:
        raise failure
    if named:
        raise EdgefelError(f"{manifest.folder}: backend {backend} cannot run it here: {skipped[backend]}")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    raise EdgefelError(f"{manifest.folder}: no backend can run it here: {reasons}")


def first_choice(manifest: Manifest, precision: str | None = None) -> tuple[Choice, BundleFile] | None:
    """What "auto" would try first here, and the file of it; None if it has nothing to try. Loads nothing."""
    skipped: dict[str, str] = {}
    for name, entry in BACKENDS.items():
        if not entry.auto:
            continue
        file = _pick(manifest, entry.kind, precision)
        reason = (
            _no_file_reason(manifest, entry.kind, precision) if file is None else entry.load().obstacle(file)
        )
        if file is not None and reason is None:
            return Choice(name, skipped), file
        skipped[name] = reason or ""
    return None


def _pick(manifest: Manifest, kind: str, precision: str | None) -> BundleFile | None:
    """The file of that precision; without one, fp32, or the only file of the kind."""
    there = [file for file in manifest.files if file.kind == kind]
    for file in there:
        if file.precision == (precision or "fp32"):
            return file
    return there[0] if precision is None and len(there) == 1 else None


def _no_file_reason(manifest: Manifest, kind: str, precision: str | None) -> str:
    there = [file.precision for file in manifest.files if file.kind == kind]
    what = "engine" if kind == "engine" else "ONNX file"
    if not there:
        return f"the bundle holds no {what}"
    if precision is not None:
        return f"the bundle holds no {precision} {what}, only {', '.join(there)}"
    return f"the bundle holds {what}s of {', '.join(there)} and none of fp32; choose a precision"


def _no_file(manifest: Manifest, precision: str | None, names: list[str]) -> EdgefelError:
    only_engines = all(BACKENDS[name].kind == "engine" for name in names)
    if only_engines and not any(file.kind == "engine" for file in manifest.files):
        return EdgefelError(
            f"{manifest.folder}: holds no engine, which {', '.join(names)} runs; build one on the device with: "
            f"edgefel engine {manifest.folder}"
        )
    files = ", ".join(f"{file.name} ({file.precision})" for file in manifest.files) or "no files"
    wanted = f"no {precision} file" if precision else "neither an fp32 file nor a single other one"
    return EdgefelError(
        f"{manifest.folder}: {wanted} for {', '.join(names)}; the bundle holds {files}. "
        f"Choose a precision from these, or export again"
    )
