"""Compares a stream's results with the ground truth of a synthetic video: identity, and delay of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from edgefel.data.labels import same_class
from edgefel.runtime.stream.frames import FrameResult, TrackedFace

# a label that is back within this time was no change of label but a flicker
_STAYS = 0.3
_SETTLED = 0.5


@dataclass(frozen=True)
class ChangeSeen:
    """A change of expression as the stream saw it.

    delay: seconds from the middle of the drawn change to the first frame of the new label that stays;
    negative before the middle, None if it never came. first, second: class names.
    """

    person: int
    time: float
    first: str
    second: str
    delay: float | None


@dataclass(frozen=True)
class Judgement:
    """A stream's results on a video of known faces.

    frames: results. lost: frames of the video without a result. found: share of the faces drawn, from the
    second frame on, that have a track. strays: faces where none is drawn. tracks: track numbers of each
    person in order of appearance. agreement, raw_agreement: share of smoothed and of single-frame labels that
    are right, more than half a second from any change. flickers, raw_flickers: changes of label that were not drawn.
    """

    frames: int
    lost: int
    found: float
    strays: int
    tracks: tuple[tuple[int, ...], ...]
    changes: tuple[ChangeSeen, ...]
    agreement: float
    raw_agreement: float
    flickers: int
    raw_flickers: int

    @property
    def keeps_identity(self) -> bool:
        """Whether every person has one track, and no track has two people."""
        numbers = [number for person in self.tracks for number in person]
        return all(len(person) == 1 for person in self.tracks) and len(set(numbers)) == len(numbers)

    @property
    def slowest(self) -> float | None:
        """The longest delay of a label, None if one never came."""
        delays = [change.delay for change in self.changes]
        return None if None in delays else max((delay for delay in delays if delay is not None), default=0.0)


@dataclass(frozen=True)
class _Seen:
    time: float
    face: TrackedFace
    drawn: str


def judge(results: Sequence[FrameResult], truth: dict[str, Any]) -> Judgement:
    """results: of one pass over the video that `truth` (edgefel.data.synthetic.video.read_truth) describes."""
    seen: dict[int, list[_Seen]] = {person: [] for person, _ in enumerate(truth["subjects"], 1)}
    strays = drawn = 0
    for result in results:
        entry = truth["frames"][result.frame.index]
        drawn += len(entry["faces"]) if result.frame.index else 0
        for face in result.faces:
            nearest = _whose(face, entry["faces"])
            if nearest is None:
                strays += 1
            else:
                seen[nearest["person"]].append(_Seen(entry["time"], face, nearest["label"]))
    changes = tuple(_change_seen(change, seen[change["person"]]) for change in truth["changes"])
    settled = [
        row
        for person, rows in seen.items()
        for row in rows
        if all(abs(row.time - change.time) > _SETTLED for change in changes if change.person == person)
    ]
    return Judgement(
        frames=len(results),
        lost=len(truth["frames"]) - len({result.frame.index for result in results}),
        found=sum(map(len, seen.values())) / max(1, drawn),
        strays=strays,
        tracks=tuple(tuple(dict.fromkeys(row.face.track for row in rows)) for rows in seen.values()),
        changes=changes,
        agreement=_share(same_class(row.face.face.label, row.drawn) for row in settled),
        raw_agreement=_share(same_class(row.face.raw.label, row.drawn) for row in settled),
        flickers=_flickers(seen, changes, lambda row: row.face.face.label),
        raw_flickers=_flickers(seen, changes, lambda row: row.face.raw.label),
    )


def _share(hits: Iterable[bool]) -> float:
    values = list(hits)
    return float(np.mean(values)) if values else 0.0


def _whose(face: TrackedFace, drawn: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The drawn face whose centre is nearest, within half its side."""
    box = face.face.box
    x, y = box.x + box.side / 2, box.y + box.side / 2
    distances = [np.hypot(x - one["centre"][0], y - one["centre"][1]) / one["side"] for one in drawn]
    if not distances or min(distances) > 0.5:
        return None
    return drawn[int(np.argmin(distances))]


def _change_seen(change: dict[str, Any], rows: Sequence[_Seen]) -> ChangeSeen:
    def shows(row: _Seen) -> bool:
        return same_class(row.face.face.label, change["to"])

    delay = None
    for number, row in enumerate(rows):
        if abs(row.time - change["time"]) > 2 or not shows(row):
            continue
        following = [other for other in rows[number:] if other.time <= row.time + _STAYS]
        before = rows[:number][-1:]
        if not any(map(shows, before)) and all(map(shows, following)):
            delay = round(row.time - change["time"], 4)
            break
    return ChangeSeen(change["person"], change["time"], change["from"], change["to"], delay)


def _flickers(
    seen: Mapping[int, Sequence[_Seen]], changes: Sequence[ChangeSeen], label: Callable[[_Seen], str]
) -> int:
    """Changes of label beyond those that were drawn."""
    drawn = Counter(change.person for change in changes)
    return sum(
        max(0, sum(first != second for first, second in pairwise(map(label, rows))) - drawn[person])
        for person, rows in seen.items()
    )
