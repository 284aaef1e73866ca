"""All checks of a machine, and of a bundle on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgefel.errors import EdgefelError
from edgefel.runtime.detector_file import installed_detector
from edgefel.runtime.doctor.check import Check, Status
from edgefel.runtime.doctor.hardware import board_checks, camera_checks, power_checks, storage_checks
from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.doctor.software import accelerator_checks, base_checks, python_checks
from edgefel.runtime.engines import PACKAGES, Here, check_engine, described
from edgefel.runtime.requirements import too_old
from edgefel.runtime.telemetry.board import Board
from edgefel.text import counted
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.runtime.manifest import BundleFile, Manifest

MANIFEST = "manifest.json"
Measure = Callable[[Path], object]


def examine(
    machine: Machine | None = None, folder: Path | None = None, measure: Measure | None = None
) -> tuple[Check, ...]:
    """Checks Python, packages, board, cameras, power, and the bundle in `folder`.

    Without one, the network that comes with edgefel, if the machine is this one. measure: stores a measurement of the
    bundle in a folder (`edgefel.bench.pick`), called where there is none yet.

    Raises EdgefelError: `folder` is not a folder or has no manifest.
    """
    machine = machine or Machine()
    if folder is not None and not (folder / MANIFEST).is_file():
        raise EdgefelError(f"{folder}: no {MANIFEST} here; give the folder that 'edgefel export' wrote")
    reading = Board.find(machine.root).read()
    parts: dict[str, Iterable[Check]] = {
        "Python": python_checks(machine),
        "board": board_checks(machine),
        "storage": storage_checks(reading),
        "base packages": base_checks(machine),
        "accelerators": accelerator_checks(machine),
        "face detector": detector_checks(machine),
        "cameras": camera_checks(machine),
        "power": power_checks(reading),
        "bundle": (
            shipped_checks(machine, measure)
            if folder is None
            else bundle_checks(machine, folder, measure=measure)
        ),
    }
    return tuple(check for name, part in parts.items() for check in _guarded(name, part))


def _guarded(name: str, part: Iterable[Check]) -> Iterator[Check]:
    """The checks of a part; an exception becomes a warning, since the machine may be broken."""
    try:
        yield from part
    except Exception as error:
        found = f"not examined further: {described(error)}"
        yield Check(name, "warn", found, "mend what failed above")


def detector_checks(machine: Machine) -> Iterator[Check]:
    """The detector that `predict`, `run` and `data prepare` take by default."""
    if not machine.is_here:
        return
    try:
        path = installed_detector()
    except EdgefelError as error:
        yield Check("face detector", "fail", _first(error), "edgefel detector get")
        return
    if path is not None:
        yield Check("face detector", "ok", f"YuNet, {path}")
    else:
        found = "OpenCV's Haar cascade; YuNet is faster and finds more faces"
        yield Check("face detector", "note", found, "edgefel detector get")


def shipped_checks(machine: Machine, measure: Measure | None = None) -> Iterator[Check]:
    """The network that comes with edgefel, which `predict` and `run` take without BUNDLE."""
    if not machine.is_here:
        return
    from edgefel.runtime.shipped import NAME, find_shipped

    folder = find_shipped()
    if folder is None:
        found = "this installation holds no network"
        yield Check("bundle", "note", found, "give BUNDLE, a folder of 'edgefel export'")
    else:
        yield from bundle_checks(machine, folder, f"{NAME} comes with edgefel: ", measure)


def bundle_checks(
    machine: Machine, folder: Path, named: str = "", measure: Measure | None = None
) -> Iterator[Check]:
    """The manifest, every file it lists, and what runs it. named: what the finding starts with. measure: as of
    `examine`."""
    # imported here: it needs NumPy and OpenCV, whose absence must be reported
    from edgefel.runtime.manifest import read_manifest

    try:
        manifest = read_manifest(folder)
    except EdgefelError as error:
        yield Check("bundle", "fail", _first(error), "run 'edgefel export' again, or copy the bundle again")
        return
    model = manifest.model
    if not manifest.files:
        yield Check("bundle", "fail", f"{model.name}, without files", "run 'edgefel export' again")
        return
    classes = counted(len(manifest.labels), "class", "classes")
    found = f"{named}{model.name}, {classes}, {counted(len(manifest.files), 'file')}{_accuracy(manifest)}"
    yield Check("bundle", "ok", found)
    packages = {name: machine.package(name) for name in PACKAGES}
    versions = {name: str(item.version) for name, item in packages.items() if item.module}
    broken = {name: item.error for name, item in packages.items() if item.error}
    here = Here(versions, machine.gpu, broken, machine.gpu_problem() if machine.gpu is None else None)
    onnxruntime = machine.package("onnxruntime").version
    for file in manifest.files:
        yield _file(manifest, file, here, onnxruntime)
    if machine.is_here:
        if measure is not None:
            yield from _measured(manifest, measure)
        yield _backend(manifest)


def _measured(manifest: Manifest, measure: Measure) -> Iterator[Check]:
    """Has the bundle measured for `--backend auto`, unless it was; a note if that fails."""
    from edgefel.runtime.measurement import find_measurement

    if find_measurement(manifest, usable_cores()) is not None:
        return
    try:
        measure(manifest.folder)
    except EdgefelError as error:
        yield Check("measurement", "note", f"not measured: {_first(error)}", "edgefel bench pick")
    except Exception as error:  # of packages that are broken
        yield Check("measurement", "note", f"not measured: {described(error)}", "edgefel bench pick")


def _accuracy(manifest: Manifest) -> str:
    """Accuracy and macro F1 of the first file, if it was compared with PyTorch on labelled images."""
    parity = manifest.files[0].parity or {}
    try:  # entries that no shape is asked of
        measured = parity["labels"]
        scores = f"accuracy {measured['accuracy']:.1%}, macro F1 {measured['macro_f1']:.3f}"
        images = f"{counted(parity['images'], 'image')} of {parity['inputs']}"
    except (KeyError, TypeError, ValueError):
        return ""
    split = f", split {parity['split']}" if "split" in parity else ""
    return f"; {scores} on {images}{split}"


def _backend(manifest: Manifest) -> Check:
    """The choice of `--backend auto`, found by labelling one image, and why preferred ones fail."""
    from edgefel.runtime.backends.choice import first_choice
    from edgefel.runtime.session import Session

    expected = first_choice(manifest, usable_cores())
    try:
        with Session.open(manifest.folder) as session:
            session.warm_up()
            choice, file = session.choice, session.file
    except EdgefelError as error:
        return Check("backend", "fail", _first(error), "see the lines of the files above")
    if expected is not None and expected != choice.backend:
        reason = choice.skipped.get(expected, "").partition("; ")[0]
        found = f"{file.name} by {choice.backend}, since {expected} fails: {reason}"
        fix = f"see the lines above, or leave it out: --backend {choice.backend}"
        return Check("backend", "fail", found, fix)
    return Check("backend", "ok", f"{file.name} by {choice.why}: {choice.basis}")


def _file(manifest: Manifest, file: BundleFile, here: Here, onnxruntime: str | None) -> Check:
    # imported here: it needs NumPy, whose absence must be reported
    from edgefel.runtime.backends.base import BACKENDS

    try:
        manifest.verify(file)
    except EdgefelError as error:
        return Check(file.name, "fail", _first(error), "export the bundle again, or copy it again")
    judged = manifest.judged(file).verdict
    if file.kind == "engine":
        reason = check_engine(file, here)
        if reason is not None:
            # without a GPU the engine is probably for another device
            return _refused(file, "note" if here.gpu is None else "warn", reason)
    if file.kind == "onnx" and (reason := too_old(file, onnxruntime or "")) is not None:
        return _refused(file, "warn", reason)
    if judged == "fail":
        fix = "choose another precision; docs/parity.md says how a file is judged"
        return Check(file.name, "warn", "failed its comparison with PyTorch, so it is refused", fix)
    compared = {"pass": "agrees with PyTorch", "warn": "agrees with PyTorch, with warnings"}
    special = file.kind == "onnx" and len(file.backends) < len(BACKENDS)
    purpose = f", for {', '.join(file.backends)}" if special else ""
    size = f"{file.precision}, {file.bytes / 1e6:.1f} MB{purpose}"
    return Check(file.name, "ok", f"{size}, {compared.get(judged or '', 'not compared with PyTorch')}")


def _refused(file: BundleFile, status: Status, reason: str) -> Check:
    found, _, fix = reason.removeprefix(f"{file.name}: ").rpartition("; ")
    return Check(file.name, status, found, fix.removeprefix("run: "))


def _first(error: EdgefelError) -> str:
    """The problem, without the advice that follows."""
    return str(error).partition(";")[0]
