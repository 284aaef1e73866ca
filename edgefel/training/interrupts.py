"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop answers at the end of a step."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from edgefel import signals


class Interrupts:
    """While active, the first signal only sets `requested`; a repeated one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._active = ExitStack()

    def __enter__(self) -> Interrupts:
        self._active.enter_context(signals.answered(self._answer))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active.close()

    def _answer(self, number: int) -> None:
        if self.requested:
            signals.interrupt(number)
        self.requested = True
