"""What one person was seen with over time, in bounded memory: segments of one label, and averages in bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgefel.runtime.results import UNSURE
from edgefel.runtime.stream.frames import TrackedFace
from edgefel.runtime.stream.report.shares import Share, Values, label_shares
from edgefel.runtime.stream.report.thumbnails import Thumbnails

MOST_BINS = 512
FIRST_WIDTH = 0.1  # seconds
MOST_SEGMENTS = 1000
# Seconds that a face counts as seen after a frame, at most: as long as the tracker keeps a lost one.
HOLD = 1.0


class Bins:
    """Sums over time of several quantities, in at most MOST_BINS bins of equal width.

    width: seconds of a bin; it doubles whenever a longer time has to fit. Bins begin at multiples of it.
    """

    def __init__(self, quantities: int) -> None:
        self.width = FIRST_WIDTH
        self._sums = np.zeros((MOST_BINS, quantities))
        self._first = self._count = 0

    def add(self, begin: float, end: float, values: Values) -> None:
        """Adds `values` [Q], per second, from `begin` to `end` in seconds; not before what was added first."""
        if not self._count:
            self._first = math.floor(begin / self.width)
        while math.floor(end / self.width) - self._first >= MOST_BINS:
            self._double()
        number = max(0, math.floor(begin / self.width) - self._first)
        while begin < end:
            edge = min(end, (self._first + number + 1) * self.width)
            if edge > begin:  # else rounded: `begin` is the end of this bin
                self._sums[number] += (edge - begin) * values
                self._count = max(self._count, number + 1)
                begin = edge
            number += 1

    @property
    def edges(self) -> Values:
        """[B + 1] in seconds."""
        return np.arange(self._first, self._first + self._count + 1, dtype=np.float64) * self.width

    @property
    def sums(self) -> Values:
        """[B, Q], in units of the quantities times seconds."""
        return self._sums[: self._count]

    def _double(self) -> None:
        odd = self._first % 2
        padded = np.zeros((MOST_BINS + 2, self._sums.shape[1]))
        padded[odd : odd + MOST_BINS] = self._sums
        pairs = padded.reshape(-1, 2, padded.shape[1]).sum(axis=1)
        self._sums[:] = 0
        self._sums[: len(pairs)] = pairs
        self._count = (self._count + odd + 1) // 2
        self._first, self.width = self._first // 2, 2 * self.width


@dataclass
class Segment:
    """From `begin` to `end` seconds a person was shown with this label, which may be "unsure".

    seconds: in which the person was seen; the label may have outlasted a gap. probability: of the label, of the best
    guess where it is "unsure"; with confidence and quality summed over `seconds`.
    """

    label: str
    begin: float
    end: float
    seconds: float = 0.0
    probability: float = 0.0
    confidence: float = 0.0
    quality: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with averages; None where nothing was measured."""
        names = ("probability", "confidence", "quality")
        return {
            "begin": round(self.begin, 3),
            "end": round(self.end, 3),
            "label": self.label,
            **{name: average(getattr(self, name), self.seconds) for name in names},
        }


class Person:
    """One track of a stream.

    number: of the track. labels: class names of the network, then "unsure". began, last: seconds of the stream, first
    and last seen. frames: with this face. changes: of the label shown. least: seconds; where there were more than
    MOST_SEGMENTS, those that are not longer than this may be part of the one before.
    """

    def __init__(self, number: int, labels: Sequence[str], time: float, *, thumbnails: bool = False) -> None:
        """labels: class names of the network."""
        self.number, self.labels = number, (*labels, UNSURE)
        self.began = self.last = time
        self.frames = self.changes = 0
        self.least = 0.0
        self.segments: list[Segment] = []
        self.thumbnails = Thumbnails() if thumbnails else None
        self._classes = len(labels)
        self._bins = Bins(2 * len(labels) + 4)
        self._now: tuple[Values, float] | None = None

    def see(self, time: float, face: TrackedFace) -> None:
        """The face in a frame, at `time` seconds."""
        self.last = max(self.last, time)
        self.frames += 1
        probability, quality = face.probability, math.nan if face.quality is None else face.quality
        label = face.label
        shown = [float(name == label) for name in self.labels]
        row = (*shown, *face.probabilities.values(), 1.0, face.confidence, quality)
        self._now = np.array(row), probability
        if not self.segments or self.segments[-1].label != label:
            self.changes += bool(self.segments)
            if len(self.segments) >= MOST_SEGMENTS:
                self._merge()
            self.segments.append(Segment(label, self.last, self.last))

    def hold(self, time: float) -> None:
        """What was seen last has lasted until `time` seconds, but not longer than HOLD."""
        end = min(time, self.last + HOLD)
        if self._now is None or end <= self.last:
            return
        row, probability = self._now
        self._bins.add(self.last, end, row)
        segment, seconds = self.segments[-1], end - self.last
        segment.seconds += seconds
        segment.probability += seconds * probability
        segment.confidence += seconds * float(row[-2])
        segment.quality += seconds * float(row[-1])
        segment.end = self.last = end

    @property
    def seconds(self) -> float:
        """In which the person was seen."""
        return float(self._bins.sums[:, -3].sum())

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Of the labels, "unsure" last. To be read when the person has gone."""
        series = self._bins.sums[:, : self._classes + 1]
        return label_shares(self.labels, series.sum(axis=0).tolist(), self.changes, series)

    @property
    def top(self) -> Share:
        """The largest share."""
        return max(self.shares, key=lambda share: share.value)

    @property
    def confidence(self) -> float | None:
        """The average."""
        return average(float(self._bins.sums[:, -2].sum()), self.seconds)

    @property
    def quality(self) -> float | None:
        """The average."""
        return average(float(self._bins.sums[:, -1].sum()), self.seconds)

    def averages(self, most: int = MOST_BINS) -> tuple[Values, Values]:
        """Edges [B + 1] of at most `most` bins in seconds, and the averages [B, C + 2] in them: probabilities, then
        confidence and quality. NaN where the person was not seen.
        """
        edges, sums = self._bins.edges, self._bins.sums
        while len(sums) > most:
            sums = np.add.reduceat(sums, range(0, len(sums), 2), axis=0)
            edges = np.append(edges[:-1:2], edges[-1])
        seen = np.where(sums[:, -3] > 0, sums[:, -3], np.nan)[:, None]
        columns = [*range(self._classes + 1, 2 * self._classes + 1), -2, -1]
        return edges, sums[:, columns] / seen

    def _merge(self) -> None:
        """Merges the shorter half of the segments into the ones before."""
        lengths = [segment.end - segment.begin for segment in self.segments]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        short = set(order[: len(order) // 2])
        self.least = max(self.least, round(max(lengths[index] for index in short), 3))
        kept: list[Segment] = []
        for index, segment in enumerate(self.segments):
            if not kept or not (index in short or kept[-1].label == segment.label):
                kept.append(segment)
                continue
            before = kept[-1]
            before.end = segment.end
            if before.label == segment.label:
                for name in ("seconds", "probability", "confidence", "quality"):
                    setattr(before, name, getattr(before, name) + getattr(segment, name))
        self.segments = kept


def average(total: float, seconds: float) -> float | None:
    """Three decimals; None over no time, or where nothing was measured."""
    return round(total / seconds, 3) if seconds and math.isfinite(total) else None
