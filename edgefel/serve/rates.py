"""Requests per second of each client."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 4096


class Rates:
    """A bucket of tokens for each client, by address. The clients seen longest ago are forgotten, which bounds memory.

    rate: tokens that come back per second; 0 is no limit. burst: what a bucket holds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Takes a token; 0, or the seconds until there is one."""
        left = self.left(client)
        if left < 1:
            return max(1e-3, (1 - left) / self._rate)
        if self._rate:
            self._buckets[client] = left - 1, self._clock()
            self._buckets.move_to_end(client)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
        return 0.0

    def left(self, client: str) -> float:
        """Tokens of a client."""
        if not self._rate:
            return math.inf
        tokens, then = self._buckets.get(client, (float(self._burst), 0.0))
        return min(self._burst, tokens + self._rate * (self._clock() - then))
