"""What an export tells about its progress. The command line draws it; by default nobody listens."""

from __future__ import annotations


class Progress:
    """Steps follow each other; `start` ends the step before it. This one shows nothing."""

    def start(self, step: str, total: int | None = None) -> None:
        """A step of `total` units begins; None when its length is not known."""

    def advance(self, units: int = 1) -> None:
        """`units` more of the step are done."""


SILENT = Progress()
