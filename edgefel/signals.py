"""Signals that end a command: Ctrl-C (SIGINT), a service manager (SIGTERM), a dropped connection (SIGHUP).

All three are handled alike: within `answered` they call a function in the main thread, which by default raises
`Interrupted`, so that cleanup code runs. The exit code is 128 plus the signal's number. A signal that was ignored when
the command started (`nohup`, a shell's background job) stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Windows has no SIGHUP
_HANG_UP: int | None = getattr(signal, "SIGHUP", None)
ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, *(() if _HANG_UP is None else (_HANG_UP,)))
# seconds after which an interrupt that was discarded is repeated
_PATIENCE = 0.5
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", _HANG_UP: "hung up"}


class Interrupted(KeyboardInterrupt):
    """A signal ended the command. number: of the signal. message: the last line to print, instead of the default."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or _WORDS.get(number, "interrupted"))
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that shells expect."""
        return 128 + self.number


def interrupt(number: int) -> None:
    """Raises Interrupted, and again if what it is raised in discards it, such as a destructor or a callback from C."""
    _process.interrupted = number
    _process.watch(number)
    raise Interrupted(number)


def received() -> int | None:
    """The first signal received within the current or last outermost `answered`."""
    return _process.told[0] if _process.told else None


def interrupting() -> int | None:
    """The signal that `interrupt` raised Interrupted for within the current or last outermost `answered`.

    What it is raised in may replace it: NumPy does so in comparisons.
    """
    return _process.interrupted


@contextmanager
def answered(answer: Callable[[int], None] = interrupt, numbers: tuple[int, ...] = ENDING) -> Iterator[None]:
    """While active, the first of these signals calls `answer` with its number, as does a repeated Ctrl-C or SIGTERM.

    Kernel, shell and service manager may all announce the end of a session: a different signal after the first, and a
    second SIGHUP, are ignored as part of the same end. Contexts nest; the inner one answers. Only the main thread can
    change handlers in Python: in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _process.is_repeated():
            if not _is_interrupted(sys.exc_info()[1]):
                raise Interrupted(number)
        elif _process.is_news(number):
            answer(number)

    before: dict[int, Any] = {}
    _process.enter()
    try:
        for number in numbers:
            # None: a handler that was not set from Python
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _process.leave()


@contextmanager
def collected() -> Iterator[list[int]]:
    """The signals received while active. The first is only recorded; a repeated one interrupts at once."""
    numbers: list[int] = []

    def answer(number: int) -> None:
        if numbers:
            interrupt(number)
        numbers.append(number)

    with answered(answer):
        yield numbers


class _Process:
    """The signals that this process has received, and its standard output and error after their terminal is gone.

    Drawing a progress bar in a closed terminal raises OSError, possibly while results are saved: after SIGHUP, output
    to a terminal is discarded.
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        self.interrupted: int | None = None
        self._depth = 0
        self._watcher: threading.Thread | None = None
        self._repeated = False
        self._terminals: list[int] = []
        self._kept: dict[int, int] = {}

    def enter(self) -> None:
        if not self._depth:
            self.told.clear()
            self.interrupted = None
            self._watcher = None
            self._repeated = False
            self._terminals = [number for number in (1, 2) if os.isatty(number)]
        self._depth += 1

    def leave(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, kept in self._kept.items():
            if os.isatty(kept):  # kill -HUP, or a terminal that is not closed yet: it gets the last line
                os.dup2(kept, number)
            os.close(kept)
        self._kept.clear()

    def is_news(self, number: int) -> bool:
        if number == _HANG_UP:
            self._let_go()
        if self.told and number != signal.SIGINT and (number not in self.told or number == _HANG_UP):
            return False
        self.told.append(number)
        return True

    def watch(self, number: int) -> None:
        """Sends `number` again while the main thread goes on as if it had not been interrupted."""
        if self._watcher is None and hasattr(signal, "pthread_kill"):  # Windows has none
            self._watcher = threading.Thread(
                target=self._watch, args=(number,), name="interrupt", daemon=True
            )
            self._watcher.start()

    def is_repeated(self) -> bool:
        """Whether a signal is the one that `watch` sent."""
        repeated, self._repeated = self._repeated, False
        return repeated

    def _watch(self, number: int) -> None:
        main: Any = threading.main_thread().ident
        while True:
            time.sleep(_PATIENCE)
            handled: Any = sys._current_exceptions().get(main)
            # looked at last: outside of `answered` the signal would have its default effect
            if not self._depth or self._watcher is not threading.current_thread():
                return
            # before Python 3.12 a tuple of type, exception and traceback
            if not _is_interrupted(handled[1] if isinstance(handled, tuple) else handled):
                self._repeated = True
                signal.pthread_kill(main, number)

    def _let_go(self) -> None:
        for number in self._terminals:
            if number not in self._kept:
                self._kept[number] = os.dup(number)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def _is_interrupted(handled: BaseException | None) -> bool:
    """Whether an exception is Interrupted or was raised while that was handled."""
    while handled is not None and not isinstance(handled, Interrupted):
        handled = handled.__context__
    return handled is not None


_process = _Process()
