"""All checks of a machine, and of a bundle on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.bundle import bundle_checks
from edgefel.runtime.doctor.check import Check
from edgefel.runtime.doctor.hardware import board_checks, camera_checks, power_checks, storage_checks
from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.doctor.software import accelerator_checks, base_checks, python_checks
from edgefel.runtime.engines import described
from edgefel.runtime.telemetry.board import Board

MANIFEST = "manifest.json"


def examine(machine: Machine | None = None, folder: Path | None = None) -> tuple[Check, ...]:
    """Checks Python, packages, board, cameras, power, and the bundle in `folder` if one is given.

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
        "cameras": camera_checks(machine),
        "power": power_checks(reading),
        "bundle": () if folder is None else bundle_checks(machine, folder),
    }
    return tuple(check for name, part in parts.items() for check in _guarded(name, part))


def _guarded(name: str, part: Iterable[Check]) -> Iterator[Check]:
    """The checks of a part; an exception becomes a warning, since the machine may be broken."""
    try:
        yield from part
    except Exception as error:
        found = f"not examined further: {described(error)}"
        yield Check(name, "warn", found, "mend what failed above")
