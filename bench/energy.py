"""Energy of a call, on boards with a power meter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgefel.runtime.telemetry.board import Board

# Rails are read as watts at a moment and joined by straight lines; ten readings a second follow a board, and reading
# costs little beside the calls between them.
_READ_EVERY = 0.1


@dataclass(frozen=True)
class Energy:
    """joules: of one call, for all that the meter covers, idle power included. source: the meter."""

    joules: float
    source: str

    @property
    def note(self) -> str:
        """What the meter measures, in words."""
        what = "the processor package alone" if self.source.startswith("rapl") else "the whole board"
        return f"energy by {self.source}: {what}, idle power included"


def measure_energy(
    call: Callable[[], Any],
    seconds: float,
    board: Board | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Energy | None:
    """Repeats a call for that many seconds, at least once; None on boards without a working meter."""
    board = board or Board.find()
    begin = last = clock()
    before = after = board.read(begin)
    if before.energy_j is None or before.power_source is None:
        return None
    calls = 0
    while not calls or last - begin < seconds:
        call()
        calls += 1
        now = clock()
        # the last reading lies at the end of a call, so that it closes what was counted
        if now - last >= _READ_EVERY or now - begin >= seconds:
            after, last = board.read(now), now
    if after.energy_j is None or after.energy_j <= before.energy_j:
        return None
    return Energy((after.energy_j - before.energy_j) / calls, before.power_source)
