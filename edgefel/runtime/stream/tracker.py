"""Follows faces from frame to frame by where they are and by their embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox
from edgefel.runtime.preprocessing import Tensor
from edgefel.runtime.stream.assignment import assign

Squares = npt.NDArray[np.float64]  # [N, 3]: centre x, centre y, side


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


class Track:
    """One face over time. number: 0 until it is confirmed, then 1, 2, ... in the order of confirmation."""

    def __init__(self, time: float, square: Squares, embedding: Tensor | None) -> None:
        self.number = 0
        self.began = time
        self.seen = time
        self.hits = 1
        self.square = square
        self.embedding = embedding
        self._velocity = np.zeros(3)  # per second

    def expected(self, time: float) -> Squares:
        """Where it should be: it moves on as it did, for half a second at most."""
        return self.square + self._velocity * min(time - self.seen, 0.5)

    def update(self, time: float, square: Squares, embedding: Tensor | None) -> None:
        """Takes in the face of this frame."""
        elapsed = time - self.seen
        if elapsed > 0:
            # a detector's boxes tremble: what they moved from one frame to the next is half noise
            self._velocity += 0.3 * ((square - self.square) / elapsed - self._velocity)
        self.square, self.seen = square, time
        self.hits += 1
        if embedding is not None and self.embedding is not None:
            embedding = _unit(0.9 * self.embedding + 0.1 * embedding)
        self.embedding = embedding


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
        """The track of each of N boxes, new ones included. time: seconds, not falling. embeddings: [N, E]."""
        squares = _squares(boxes)
        faces = [None] * len(boxes) if embeddings is None else [_unit(row) for row in embeddings]
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

    def _costs(self, time: float, squares: Squares, faces: Sequence[Tensor | None]) -> Squares:
        """[tracks, faces]; infinite where the two cannot be the same."""
        options = self._options
        costs = np.full((len(self._tracks), len(squares)), np.inf)
        if costs.size == 0:
            return costs
        expected = np.stack([track.expected(time) for track in self._tracks])
        overlap = _overlaps(expected, squares)
        likeness = np.array([[_likeness(track.embedding, face) for face in faces] for track in self._tracks])
        distance = np.linalg.norm(expected[:, None, :2] - squares[None, :, :2], axis=2)
        side = np.maximum(expected[:, None, 2], squares[None, :, 2])
        ratio = side / np.maximum(1, np.minimum(expected[:, None, 2], squares[None, :, 2]))
        near = (distance <= options.reach * side) & (ratio <= 1.5) & (likeness >= options.least_likeness)
        known = ~np.isnan(likeness)
        cost = (1 - overlap) + options.appearance * np.where(known, 1 - np.nan_to_num(likeness), 0)
        return np.where((overlap >= options.least_overlap) | near, cost, np.inf)


def _squares(boxes: Sequence[FaceBox]) -> Squares:
    rows = [(box.x + box.side / 2, box.y + box.side / 2, box.side) for box in boxes]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _overlaps(first: Squares, second: Squares) -> Squares:
    """Intersection over union of every pair, [N, M]."""
    a, b = first[:, None], second[None]
    sides = [
        np.minimum(a[..., axis] + a[..., 2] / 2, b[..., axis] + b[..., 2] / 2)
        - np.maximum(a[..., axis] - a[..., 2] / 2, b[..., axis] - b[..., 2] / 2)
        for axis in (0, 1)
    ]
    common = np.maximum(0, sides[0]) * np.maximum(0, sides[1])
    return np.asarray(common / np.maximum(1e-9, a[..., 2] ** 2 + b[..., 2] ** 2 - common))


def _unit(embedding: Tensor) -> Tensor:
    return np.asarray(embedding / max(1e-12, float(np.linalg.norm(embedding))), dtype=np.float32)


def _likeness(first: Tensor | None, second: Tensor | None) -> float:
    """Cosine; NaN where an embedding is missing, which no comparison takes for alike."""
    return float("nan") if first is None or second is None else float(first @ second)
