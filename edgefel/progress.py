"""Progress callbacks; silent by default. The command line draws them."""

from __future__ import annotations


class Progress:
    """Sequential steps: `start` ends the step before it. This base class shows nothing."""

    def start(self, step: str, total: int | None = None) -> None:
        """A step of `total` units begins; None if the length is unknown."""

    def advance(self, units: int = 1) -> None:
        """`units` more of the step are done."""


SILENT = Progress()
