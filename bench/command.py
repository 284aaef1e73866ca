"""The command line of scripts that measure: a row printed as JSON, and versions."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from edgefel import __version__, signals
from edgefel.errors import EdgefelError


def run_bench(
    parser: argparse.ArgumentParser,
    measure: Callable[..., Mapping[str, Any]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Measures what the arguments ask for and prints the row as JSON; returns the exit code.

    parser: its help keeps the lines of the description. measure: takes every option of `parser` by the name of its
    `dest`. Its EdgefelError becomes one line on stderr and exit code 2; a signal becomes 128 plus its number.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options = parser.parse_args(arguments)
    try:
        with signals.answered():
            row = measure(**vars(options))
    except signals.Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.code
    except EdgefelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(row, indent=2))
    return 0


def versions(**modules: ModuleType) -> dict[str, str]:
    """Versions of edgefel, of `modules` under the names given, and of Python."""
    imported = {name: str(module.__version__) for name, module in modules.items()}
    return {"edgefel": __version__, **imported, "python": platform.python_version()}


def one_thread(bench: str, command: str, **modules: ModuleType) -> dict[str, Any]:
    """The head of a document that was measured at batch 1 on one thread. modules: as `versions` takes them."""
    head = {"bench": bench, "command": command, "threads": 1, "batch": 1, "machine": platform.machine()}
    return head | {"versions": versions(**modules)}
