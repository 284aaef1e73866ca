"""Optional dependencies of commands."""

from __future__ import annotations

import importlib.util

from edgefel.errors import MissingDependencyError


def require(module: str, extra: str, purpose: str) -> None:
    """Raises MissingDependencyError unless `module` is installed; imports nothing."""
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(module, extra, purpose)
