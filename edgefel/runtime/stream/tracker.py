"""Tracks faces across frames by position and embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Tensor
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox

Costs = Sequence[Sequence[float]]

# seconds over which a velocity is averaged; half of a detector's box movement between two frames is noise
_STEADY = 0.1
# seconds for which a lost face is extrapolated
_MOVES_ON = 0.5
# largest ratio of sizes for a match by embedding alone
_MOST_RATIO = 1.5


@dataclass(frozen=True)
class TrackerOptions:
    """Options of the tracker.

    least_overlap: intersection over union from which a face matches a track by position alone. reach: distance, in
    sides of the box, up to which a face matches by a similar embedding. least_likeness: cosine from which two
    embeddings are similar. appearance: weight of the embedding's cost (1 - cosine) relative to the position's
    (1 - overlap). patience: seconds that a track is kept without a detection. confirm: consecutive frames that confirm
    a track, which filters out false detections.

    Raises EdgefelError for values out of range.
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

    Floats, here and below: for a few faces NumPy's call overhead exceeds the arithmetic.
    """

    x: float
    y: float
    side: float

    @classmethod
    def of(cls, box: FaceBox) -> Square:
        return cls(box.x + box.side / 2, box.y + box.side / 2, float(box.side))

    def distance(self, other: Square) -> float:
        """Distance of the centres."""
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
        """The extrapolated position, at constant velocity for at most _MOVES_ON seconds; the size stays similar."""
        elapsed = min(time - self.seen, _MOVES_ON)
        (x, y, side), (across, down, growth) = self.square, self._velocity
        grown = min(max(side + growth * elapsed, side / _MOST_RATIO), side * _MOST_RATIO)
        return Square(x + across * elapsed, y + down * elapsed, grown)

    def update(self, time: float, square: Square, embedding: Tensor | None) -> None:
        """Adds the face of this frame."""
        elapsed = time - self.seen
        if elapsed > 0:
            # averaged over time, not over frames: two frames that arrive at once say little about the velocity
            share = -math.expm1(-elapsed / _STEADY)
            moved = zip(self._velocity, self.square, square, strict=True)
            self._velocity = Square(*(v + share * ((new - old) / elapsed - v) for v, old, new in moved))
        self.square, self.seen = square, time
        self.hits += 1
        if embedding is not None and self.embedding is not None:
            embedding = _unit(0.9 * self.embedding + 0.1 * embedding)
        self.embedding = self.embedding if embedding is None else embedding


class Tracker:
    """Assigns every face of a frame to a track. Not thread-safe."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self.tracks: list[Track] = []  # current ones, including unconfirmed ones
        self.count = 0  # confirmed tracks so far

    def update(self, time: float, boxes: Sequence[FaceBox], embeddings: Tensor | None = None) -> list[Track]:
        """The track of each of N boxes, existing or new. embeddings: [N, E]; rows that are not finite are ignored.

        time: seconds. If it falls, the clock was set back: tracks are kept, and their ages start again.
        """
        squares = [Square.of(box) for box in boxes]
        faces: list[Tensor | None] = [None] * len(boxes) if embeddings is None else _unit_rows(embeddings)
        for track in self.tracks:
            track.seen, track.began = min(track.seen, time), min(track.began, time)
        self.tracks = [track for track in self.tracks if time - track.seen <= self._options.patience]
        found: list[Track | None] = [None] * len(boxes)
        for row, column in assign(self._costs(time, squares, faces)):
            track = found[column] = self.tracks[row]
            track.update(time, squares[column], faces[column])
        # a track that misses a frame before it is confirmed was a false detection
        self.tracks = [track for track in self.tracks if track.number or track.seen == time]
        for column, known in enumerate(found):
            track = known or Track(time, squares[column], faces[column])
            if known is None:
                self.tracks.append(track)
                found[column] = track
            if not track.number and track.hits >= self._options.confirm:
                self.count += 1
                track.number = self.count
        return [track for track in found if track is not None]

    def reset(self) -> None:
        """Drops every track, since the next frames show other people. Numbers continue."""
        self.tracks = []

    def _costs(self, time: float, squares: Sequence[Square], faces: Sequence[Tensor | None]) -> Costs:
        """[tracks, faces]; infinite for pairs that cannot match."""
        costs = []
        for track in self.tracks:
            expected, known = track.expected(time), track.embedding
            pairs = zip(squares, faces, strict=True)
            costs.append([self._cost(expected, square, known, face) for square, face in pairs])
        return costs

    def _cost(self, expected: Square, found: Square, known: Tensor | None, face: Tensor | None) -> float:
        options = self._options
        larger = max(expected.side, found.side)
        apart = max(abs(expected.x - found.x), abs(expected.y - found.y))
        if apart > options.reach * larger and 2 * apart >= expected.side + found.side:
            return math.inf  # the usual case: another person
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
    """The vector scaled to length 1."""
    return embedding / max(1e-12, math.sqrt(float(embedding @ embedding)))


def _unit_rows(embeddings: Tensor) -> list[Tensor | None]:
    """Rows [N, E] scaled to length 1; None for rows that are not finite, which would corrupt a track's average."""
    lengths = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))
    finite = np.isfinite(lengths)
    unit = embeddings / np.where(finite, np.maximum(lengths, 1e-12), 1)[:, None]
    return [row if sound else None for row, sound in zip(unit, finite.tolist(), strict=True)]


def assign(costs: Costs) -> list[tuple[int, int]]:
    """The pairs (row, column) of a least-cost assignment, sorted by row. costs: N rows of M numbers.

    A pair with an infinite cost is forbidden. The number of pairs comes before their cost. Raises ValueError for NaN.
    """
    if any(math.isnan(cost) for row in costs for cost in row):
        raise ValueError("costs with NaN among them: expected numbers or infinity")
    # first each row's cheapest column, without NumPy, whose call overhead is larger for a few faces
    pairs = [
        (number, row.index(cheapest))
        for number, row in enumerate(costs)
        if (cheapest := min(row, default=math.inf)) < math.inf
    ]
    if len({column for _, column in pairs}) == len(pairs):
        return pairs  # no conflict, the usual case between two frames
    matrix = np.array(costs, dtype=np.float64)
    allowed = np.isfinite(matrix)
    # more expensive than any set of allowed pairs, so that forbidden pairs are chosen last
    span = matrix[allowed].max() - matrix[allowed].min() + 1
    filled = np.where(allowed, matrix, matrix[allowed].max() + span * (min(matrix.shape) + 1))
    if filled.shape[0] <= filled.shape[1]:
        pairs = list(enumerate(_match_rows(filled)))
    else:
        pairs = sorted((row, column) for column, row in enumerate(_match_rows(filled.T)))
    return [(row, column) for row, column in pairs if allowed[row, column]]


def _match_rows(costs: npt.NDArray[np.float64]) -> list[int]:
    """The column of every row. costs: at least as many columns as rows.

    Shortest augmenting paths with dual variables: Crouse, "On implementing 2D rectangular assignment
    algorithms", IEEE Transactions on Aerospace and Electronic Systems 52(4), 2016, section III.
    """
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    column_of = np.full(rows, -1)
    row_of = np.full(columns, -1)
    for start in range(rows):
        distance = np.full(columns, np.inf)
        previous = np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        visited = [start]
        row, reached = start, 0.0
        while True:
            through = reached + costs[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter], previous[shorter] = through[shorter], row
            column = int(np.where(done, np.inf, distance).argmin())
            reached = float(distance[column])
            done[column] = True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
            visited.append(row)
        for other in visited:
            row_price[other] += reached - (0 if other == start else distance[column_of[other]])
        column_price[done] -= reached - distance[done]
        while column >= 0:  # reverse the path: each row on it takes the column that led away from it
            row = int(previous[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [int(column) for column in column_of]
