"""All checks of a machine, and of a bundle on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.bundle import bundle_checks
from edgefel.runtime.doctor.check import Check
from edgefel.runtime.doctor.hardware import (
    board_checks,
    board_of,
    camera_checks,
    power_checks,
    storage_checks,
)
from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.doctor.software import accelerator_checks, base_checks, python_checks

MANIFEST = "manifest.json"


def examine(machine: Machine | None = None, folder: Path | None = None) -> tuple[Check, ...]:
    """Looks at everything: Python, packages, board, cameras, power, and the bundle in `folder` if there is one.

    Raises EdgefelError: `folder` is no folder or holds no manifest.
    """
    machine = machine or Machine()
    if folder is not None and not (folder / MANIFEST).is_file():
        raise EdgefelError(f"{folder}: no {MANIFEST} here; give the folder that 'edgefel export' wrote")
    board = board_of(machine)
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
    """The part's checks; what breaks it is a finding, because a broken machine is what this is for."""
    done: list[Check] = []
    try:
        for check in part():
            done.append(check)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        done.append(
            Check(
                name,
                "warn",
                f"not examined further: {type(error).__name__}: {said}",
                "mend what failed above",
            )
        )
    return done
