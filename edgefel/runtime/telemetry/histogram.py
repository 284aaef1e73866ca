"""Percentiles of durations in constant memory."""

from __future__ import annotations

import math
from array import array

_SHORTEST, _LONGEST = 1e-7, 1e4  # seconds
_GROWTH = 1.02  # ratio of neighbouring buckets: values are known to 1 %
_LOG_GROWTH = math.log(_GROWTH)
_BUCKETS = math.ceil(math.log(_LONGEST / _SHORTEST) / _LOG_GROWTH) + 1


class Histogram:
    """Counts durations in buckets that grow by 2 %, from 0.1 µs to about 3 hours, in 10 kB.

    count, total (s), low and high (s) are exact. Not thread-safe.
    """

    __slots__ = ("_counts", "count", "high", "low", "total")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self.count = 0
        self.total = 0.0
        self.low = math.inf
        self.high = 0.0

    def copy(self) -> Histogram:
        """An independent copy."""
        twin = Histogram()
        twin._counts = self._counts[:]
        twin.count, twin.total, twin.low, twin.high = self.count, self.total, self.low, self.high
        return twin

    def add(self, seconds: float) -> None:
        """Adds a duration; raises ValueError if it is negative or not finite."""
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"a duration of {seconds} s: must be 0 or more, and finite")
        bucket = int(math.log(seconds / _SHORTEST) / _LOG_GROWTH) if seconds > _SHORTEST else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.total += seconds
        self.low = min(self.low, seconds)
        self.high = max(self.high, seconds)

    def percentiles(self, fractions: tuple[float, ...]) -> tuple[float, ...]:
        """Seconds at each fraction (0.5 is the median), within 1 %, with linear interpolation like NumPy's. Zeros if
        nothing was counted."""
        if not self.count:
            return tuple(0.0 for _ in fractions)
        ranks = [fraction * (self.count - 1) for fraction in fractions]
        wanted = {whole for rank in ranks for whole in (math.floor(rank), math.ceil(rank))}
        values = self._values(sorted(wanted))
        return tuple(
            values[math.floor(rank)] + (values[math.ceil(rank)] - values[math.floor(rank)]) * (rank % 1)
            for rank in ranks
        )

    def _values(self, ranks: list[int]) -> dict[int, float]:
        """The duration of each rank from 0, as the geometric mean of its bucket. ranks: ascending."""
        found: dict[int, float] = {}
        seen, bucket = 0, -1
        for rank in ranks:
            while seen <= rank:
                bucket += 1
                seen += self._counts[bucket]
            middle = _SHORTEST * math.exp((bucket + 0.5) * _LOG_GROWTH)
            found[rank] = min(max(middle, self.low), self.high)
        return found
