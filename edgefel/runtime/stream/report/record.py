"""What was seen in a whole stream: people, cuts, frames. Its memory does not grow with the length of the stream."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgefel.runtime.stream.frames import FrameResult
from edgefel.runtime.stream.report.timeline import HOLD, Person

# people of whom everything is kept: those who were seen longest, besides those who may still be there
MOST_PEOPLE = 20
# cuts whose times are kept
MOST_CUTS = 1000
# seconds after which a lost person does not come back; the tracker gives up sooner
_GONE = 2 * HOLD


@dataclass
class Totals:
    """Of people together: their number, the seconds in which they were seen and were "unsure", changes of label."""

    people: int = 0
    seconds: float = 0.0
    unsure: float = 0.0
    changes: int = 0

    def add(self, person: Person) -> None:
        self.people += 1
        self.seconds += person.seconds
        self.unsure += person.shares[-1].seconds
        self.changes += person.changes


class StreamRecord:
    """Collects the results of a stream in order.

    all: who have gone; others: those of them who are not in `people`. cuts: the times in seconds of the first MOST_CUTS
    of `cut_count`. began, ended: seconds of the first frame, and of the last with its duration. frames: that came.
    lost: that did not, because they were dropped or unreadable. together: most people in one frame.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        thumbnails: bool = False,
        gone: Callable[[Person], None] = lambda person: None,
    ) -> None:
        """labels: class names of the network. gone: told of every person who has gone, the kept ones too."""
        self.labels = tuple(labels)
        self.all, self.others = Totals(), Totals()
        self.cuts: list[float] = []
        self.frames = self.lost = self.cut_count = self.together = 0
        self.began = self.ended = 0.0
        self._thumbnails, self._gone = thumbnails, gone
        self._next = 0
        self._duration = 0.0  # of a frame
        self._there: dict[int, Person] = {}
        self._visible: list[Person] = []  # in the last frame
        # a heap: seconds, a number of its own, and the person
        self._kept: list[tuple[float, int, Person]] = []
        self._order = itertools.count(0, -1)

    @property
    def people(self) -> list[Person]:
        """Of those who have gone the MOST_PEOPLE who were seen longest, in the order of their numbers."""
        return sorted((person for *_, person in self._kept), key=lambda person: person.number)

    def add(self, result: FrameResult) -> None:
        """The next frame."""
        time = result.time
        if self.frames:
            self._duration = max(0.0, time - self.ended) or self._duration
        else:
            self.began = time
        self.frames += 1
        self.lost += max(0, result.index - self._next)
        self._next, self.ended = result.index + 1, max(self.ended, time)
        self._hold(time)
        if result.frame.cut:
            self.cut_count += 1
            if len(self.cuts) < MOST_CUTS:
                self.cuts.append(time)
            self._let_go(list(self._there.values()))
        self._visible = []
        for face in result.faces:
            person = self._there.get(face.track)
            if person is None:
                person = Person(face.track, self.labels, time, thumbnails=self._thumbnails)
                self._there[face.track] = person
            person.see(time, face)
            if person.thumbnails is not None:
                person.thumbnails.see(time, face, result.image)
            self._visible.append(person)
        self.together = max(self.together, len(self._visible))
        self._let_go([person for person in self._there.values() if time - person.last > _GONE])

    def close(self) -> None:
        """The stream has ended, and everyone has gone."""
        self.ended += self._duration
        self._hold(self.ended)
        self._visible = []
        self._let_go(list(self._there.values()))

    def _hold(self, time: float) -> None:
        """What was seen in the last frame has lasted until now."""
        for person in self._visible:
            person.hold(time)

    def _let_go(self, people: Iterable[Person]) -> None:
        for person in people:
            del self._there[person.number]
            self._gone(person)
            self.all.add(person)
            heapq.heappush(self._kept, (person.seconds, next(self._order), person))
            if len(self._kept) > MOST_PEOPLE:
                *_, shortest = heapq.heappop(self._kept)
                self.others.add(shortest)
