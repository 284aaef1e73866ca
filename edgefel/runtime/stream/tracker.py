"""Follows faces from frame to frame by where they are and by their embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgefel.data.preprocessing import Tensor
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox
from edgefel.runtime.stream.assignment import Costs, assign

# Seconds over which a speed is averaged. A detector's boxes tremble: of what they move from one frame to the next, half
# is noise.
_STEADY = 0.1
# seconds that a face out of sight is expected to move on as it did
_MOVES_ON = 0.5
# how much larger or smaller than its track's a face may be to be taken for it out of reach of the overlap
_MOST_RATIO = 1.5


@dataclass(frozen=True)
class TrackerOptions:
    """How faces are followed.

    least_overlap: intersection over union below which a face is not taken for the track's by place alone.
    reach: how far, in sides of the box, a face that was out of sight may have moved, where its embedding is alike.
    least_likeness: cosine of two embeddings that makes them alike. appearance: weight of the embedding's cost
    (1 - cosine) beside that of the place (1 - overlap). patience: seconds a track is kept without being seen.
    confirm: frames in a row that make a track; a detector's chance finds do not last.
    """

    least_overlap: float = 0.2
    reach: float = 1.0
    least_likeness: float = 0.8
    appearance: float = 0.3
    patience: float = 1.0
    confirm: int = 2

    def __post_init__(self) -> None:
        for name in ("least_overlap", "reach", "least_likeness", "appearance", "patience"):
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0:
                raise EdgefelError(f"tracker: {name} is {value!r}; give a number of at least 0")
        if self.confirm < 1:
            raise EdgefelError(f"tracker: confirm is {self.confirm!r}; give at least 1 frame")


class Square(NamedTuple):
    """Centre and side of a box, in pixels.

    Plain numbers, here and below: for a few faces NumPy's calls take longer than the arithmetic.
    """

    x: float
    y: float
    side: float

    @classmethod
    def of(cls, box: FaceBox) -> Square:
        """The box's."""
        return cls(box.x + box.side / 2, box.y + box.side / 2, float(box.side))

    def distance(self, other: Square) -> float:
        """Of the centres."""
        return math.hypot(self.x - other.x, self.y - other.y)

    def overlap(self, other: Square) -> float:
        """Intersection over union."""
        reach = (self.side + other.side) / 2
        most = min(self.side, other.side)
        width = min(most, reach - abs(self.x - other.x))
        height = min(most, reach - abs(self.y - other.y))
        if width <= 0 or height <= 0:
            return 0.0
        common = width * height
        return common / (self.side**2 + other.side**2 - common)


class Track:
    """One face over time. number: 0 until it is confirmed, then 1, 2, ... in the order of confirmation."""

    def __init__(self, time: float, square: Square, embedding: Tensor | None) -> None:
        self.number = 0
        self.began = time
        self.seen = time
        self.hits = 1
        self.square = square
        self.embedding = embedding
        self._velocity = Square(0.0, 0.0, 0.0)  # per second

    def expected(self, time: float) -> Square:
        """Where it should be: it moves on as it did, for half a second at most, and keeps about its size."""
        elapsed = min(time - self.seen, _MOVES_ON)
        (x, y, side), (across, down, growth) = self.square, self._velocity
        grown = min(max(side + growth * elapsed, side / _MOST_RATIO), side * _MOST_RATIO)
        return Square(x + across * elapsed, y + down * elapsed, grown)

    def update(self, time: float, square: Square, embedding: Tensor | None) -> None:
        """Takes in the face of this frame."""
        elapsed = time - self.seen
        if elapsed > 0:
            # an average over time, not over frames: two frames that come at once, as after a camera's hiccup, say
            # next to nothing of the speed
            share = -math.expm1(-elapsed / _STEADY)
            moved = zip(self._velocity, self.square, square, strict=True)
            self._velocity = Square(*(v + share * ((new - old) / elapsed - v) for v, old, new in moved))
        self.square, self.seen = square, time
        self.hits += 1
        if embedding is not None and self.embedding is not None:
            embedding = _unit(0.9 * self.embedding + 0.1 * embedding)
        self.embedding = self.embedding if embedding is None else embedding

    def set_back(self, time: float) -> None:
        """The clock shows `time` now, which is earlier than it was."""
        self.seen, self.began = min(self.seen, time), min(self.began, time)


class Tracker:
    """Gives every face of a frame its track. Not for several threads."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._tracks: list[Track] = []
        self._count = 0

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Those alive, unconfirmed ones too."""
        return tuple(self._tracks)

    @property
    def count(self) -> int:
        """Confirmed tracks so far."""
        return self._count

    def update(self, time: float, boxes: Sequence[FaceBox], embeddings: Tensor | None = None) -> list[Track]:
        """The track of each of N boxes, new ones included. embeddings: [N, E]; rows that are not finite are ignored.

        time: seconds. Where it falls, the clock was set back: nobody is lost by that, and ages begin anew.
        """
        squares = [Square.of(box) for box in boxes]
        faces: list[Tensor | None] = [None] * len(boxes) if embeddings is None else _unit_rows(embeddings)
        for track in self._tracks:
            track.set_back(time)
        self._tracks = [track for track in self._tracks if time - track.seen <= self._options.patience]
        found: list[Track | None] = [None] * len(boxes)
        for row, column in assign(self._costs(time, squares, faces)):
            track = found[column] = self._tracks[row]
            track.update(time, squares[column], faces[column])
        # a track that misses a frame before it is confirmed was chance
        self._tracks = [track for track in self._tracks if track.number or track.seen == time]
        for column, known in enumerate(found):
            track = known or Track(time, squares[column], faces[column])
            if known is None:
                self._tracks.append(track)
                found[column] = track
            if not track.number and track.hits >= self._options.confirm:
                self._count += 1
                track.number = self._count
        return [track for track in found if track is not None]

    def reset(self) -> None:
        """Forgets every track: what follows shows other people. Numbers go on."""
        self._tracks = []

    def _costs(self, time: float, squares: Sequence[Square], faces: Sequence[Tensor | None]) -> Costs:
        """[tracks, faces]; infinite where the two cannot be the same."""
        costs = []
        for track in self._tracks:
            expected, known = track.expected(time), track.embedding
            pairs = zip(squares, faces, strict=True)
            costs.append([self._cost(expected, square, known, face) for square, face in pairs])
        return costs

    def _cost(self, expected: Square, found: Square, known: Tensor | None, face: Tensor | None) -> float:
        options = self._options
        larger = max(expected.side, found.side)
        apart = max(abs(expected.x - found.x), abs(expected.y - found.y))
        if apart > options.reach * larger and 2 * apart >= expected.side + found.side:
            return math.inf  # as a rule so: another person, neither overlapping nor in reach
        in_reach = expected.distance(found) <= options.reach * larger
        overlap = expected.overlap(found)
        overlaps = overlap >= options.least_overlap
        if not (overlaps or in_reach):
            return math.inf
        likeness = None if known is None or face is None else float(known @ face)
        alike = likeness is not None and likeness >= options.least_likeness
        resembles = alike and larger <= _MOST_RATIO * max(1.0, min(expected.side, found.side))
        if not (overlaps or (in_reach and resembles)):
            return math.inf
        return 1 - overlap + (0.0 if likeness is None else options.appearance * (1 - likeness))


def _unit(embedding: Tensor) -> Tensor:
    """Of length 1."""
    return embedding / max(1e-12, math.sqrt(float(embedding @ embedding)))


def _unit_rows(embeddings: Tensor) -> list[Tensor | None]:
    """Rows [N, E] of length 1; None for one that is not finite, which would stay in a track's average for ever."""
    lengths = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))
    finite = np.isfinite(lengths)
    unit = embeddings / np.where(finite, np.maximum(lengths, 1e-12), 1)[:, None]
    return [row if sound else None for row, sound in zip(unit, finite.tolist(), strict=True)]
