"""Optional dependencies of commands."""

from __future__ import annotations

import importlib.util
import sys

from edgefel.cli.console import working
from edgefel.errors import MissingDependencyError


def require(module: str, extra: str, purpose: str) -> None:
    """Raises MissingDependencyError unless `module` is installed.

    On a terminal PyTorch is imported at once, which takes seconds that a person should know of; nothing else is.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(module, extra, purpose)
    if module == "torch" and sys.stderr.isatty():
        with working("loading PyTorch"):
            importlib.import_module(module)
