"""All checks of a machine, and of a bundle on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.bundle import bundle_checks
from edgefel.runtime.doctor.check import Check
from edgefel.runtime.doctor.hardware import (
    board_checks,
    camera_checks,
    power_checks,
    storage_checks,
)
from edgefel.runtime.doctor.machine import Machine, error_line
from edgefel.runtime.doctor.software import accelerator_checks, base_checks, python_checks
from edgefel.runtime.telemetry.board import Board

MANIFEST = "manifest.json"


def examine(machine: Machine | None = None, folder: Path | None = None) -> tuple[Check, ...]:
    """Checks Python, packages, board, cameras, power, and the bundle in `folder` if one is given.

    Raises EdgefelError: `folder` is not a folder or has no manifest.
    """
    machine = machine or Machine()
    if folder is not None and not (folder / MANIFEST).is_file():
        raise EdgefelError(f"{folder}: no {MANIFEST} here; give the folder that 'edgefel export' wrote")
    board = Board.find(machine.root)
    reading = board.read()
    parts: list[tuple[str, Callable[[], Iterable[Check]]]] = [
        ("Python", lambda: python_checks(machine)),
        ("board", lambda: board_checks(machine)),
        ("storage", lambda: storage_checks(reading)),
        ("base packages", lambda: base_checks(machine)),
        ("accelerators", lambda: accelerator_checks(machine)),
        ("cameras", lambda: camera_checks(machine)),
        ("power", lambda: power_checks(board, reading)),
    ]
    if folder is not None:
        parts.append(("bundle", lambda: bundle_checks(machine, folder)))
    return tuple(check for name, part in parts for check in _guarded(name, part))


def _guarded(name: str, part: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks of a part; an exception becomes a warning, since the machine may be broken."""
    done: list[Check] = []
    try:
        for check in part():
            done.append(check)
    except Exception as error:
        found = f"not examined further: {error_line(error)}"
        done.append(Check(name, "warn", found, "mend what failed above"))
    return done
