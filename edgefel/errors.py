"""The one exception that users see as a one-line message."""

from __future__ import annotations


class EdgefelError(Exception):
    """Bad input or environment: the message says what was wrong, where, and what to do.

    The command line prints it as one line and exits with code 2. Anything else that escapes is a bug
    and keeps its traceback.
    """


class MissingDependencyError(EdgefelError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{module}', which is not installed; "
            f"run: pip install 'edgefel[{extra}]'"
        )


class EdgefelWarning(UserWarning):
    """Something about the user's input that they should know, in one line; the command line prints it on stderr."""
