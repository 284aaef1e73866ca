"""Publishes the results of a stream: when people or their labels change, and now and then."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.frames import FrameResult, TrackedFace

# seconds after which a result is published though nothing has changed
HEARTBEAT = 30.0
# seconds of the source for which a person who is not found still counts: as long as a track is kept
_OUT_OF_SIGHT = 1.0
# a change of the most prominent person's confidence that is worth a message
_CONFIDENCE_STEP = 0.1
# how much larger another face must be to become the most prominent one
_MORE_PROMINENT = 1.2


class Publisher(Protocol):
    """What a sink needs of a `Connection`."""

    def ready(self, topic: str) -> bool:
        """Whether a message can be handed over."""

    def publish(self, topic: str, payload: bytes) -> bool:
        """False if the message could not be handed over."""

    def asked_again(self) -> bool:
        """Whether the last state is to be published again."""


class Audience:
    """Who is in front of the source: the faces of the last second, the most prominent person first.

    A face that is missed in a few frames would otherwise leave and come back.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, TrackedFace]] = {}
        self._first: int | None = None

    def update(self, result: FrameResult) -> list[TrackedFace]:
        """The faces after one more frame."""
        now = result.time
        if result.frame.cut:
            self._seen.clear()
        self._seen = {track: seen for track, seen in self._seen.items() if now - seen[0] < _OUT_OF_SIGHT}
        self._seen |= {face.track: (now, face) for face in result.faces}
        faces = sorted((face for _, face in self._seen.values()), key=lambda face: -face.box.side)
        first = next((face for face in faces if face.track == self._first), None)
        if first is None or faces[0].box.side >= _MORE_PROMINENT * first.box.side:
            first = faces[0] if faces else None
        self._first = None if first is None else first.track
        return [] if first is None else [first, *(face for face in faces if face is not first)]


class MqttSink:
    """A sink that publishes a line of `edgefel run --json`, with the faces of `Audience`.

    topic: where. every: least seconds between two messages; a change that comes earlier is published by the frame after
    them, in its state then. Without a change, HEARTBEAT seconds. Nothing waits for the broker: what it cannot take is
    replaced by what is newer.
    """

    needs_image = False

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        every: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= every <= HEARTBEAT:  # NaN too
            raise EdgefelError(f"every is {every}; give seconds from 0 to {HEARTBEAT:g}")
        self._publisher, self._topic, self._every, self._clock = publisher, topic, every, clock
        self._audience = Audience()
        self._last = -math.inf
        self._asked = False
        self._published: tuple[object, float] | None = None
        self._waiting: tuple[FrameResult, list[TrackedFace]] | None = None

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        faces = self._audience.update(result)
        self._asked |= self._publisher.asked_again()
        elapsed = self._clock() - self._last
        wanted = self._asked or elapsed >= HEARTBEAT or self._is_news(faces)
        self._waiting = (result, faces) if wanted else None
        if self._asked or elapsed >= self._every:
            self._flush()

    def close(self) -> None:
        """Publishes a change that came too early; the connection is its owner's to close."""
        self._flush()

    def _flush(self) -> None:
        if self._waiting is None or not self._publisher.ready(self._topic):
            return
        result, faces = self._waiting
        message = result.to_dict() | {"faces": [face.to_dict() for face in faces]}
        # names of sources need not be UTF-8; the escapes are valid in JSON strings
        text = json.dumps(message, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if self._publisher.publish(self._topic, text):
            self._last, self._published, self._waiting = self._clock(), _essence(faces), None
            self._asked = False

    def _is_news(self, faces: list[TrackedFace]) -> bool:
        if self._published is None:
            return True
        (people, confidence), (people_before, before) = _essence(faces), self._published
        return people != people_before or abs(confidence - before) >= _CONFIDENCE_STEP


def _essence(faces: list[TrackedFace]) -> tuple[Any, float]:
    """The people with their labels and who comes first; the confidence of the first one's label."""
    people = frozenset((face.track, face.label) for face in faces)
    first = faces[0] if faces else None
    return (people, first and first.track), 0.0 if first is None else first.confidence
