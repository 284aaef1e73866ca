"""Frames of a camera, a stream, a video or a folder, and what a source of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgefel.data.preprocessing import Image


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: its number in the source, from 0; a number that is missing was dropped or lost. time: seconds since
    the source's first frame, by a file's own clock or, live, by ours. image: uint8 RGB [H, W, 3].
    captured: `time.monotonic()` when it was read. name: path of the image, in a folder.
    """

    index: int
    time: float
    image: Image
    captured: float
    name: str | None = None


@dataclass
class SourceCounts:
    """What went wrong with a source so far; every field counts up.

    unreadable: images or frames that could not be decoded. reconnects: times that a live source was opened
    again. resolution_changes: times that the size of the frames changed. missing: frames that a file announced
    and did not hold, known at its end. overwritten: frames of a live source that a newer one replaced before they were
    read.
    """

    unreadable: int = 0
    reconnects: int = 0
    resolution_changes: int = 0
    missing: int = 0
    overwritten: int = 0


class FrameSource(Protocol):
    """Where frames come from. Read by one thread; `close` may be called by another and ends a waiting `read`.

    live: frames come whether they are read or not. fps: frames per second, 0 where unknown. frames: how many
    to expect, 0 where unknown or endless. name: what the user asked for, without a password. description: the same
    with what was found, such as "camera 0 (640x480, 30 fps)".
    """

    live: bool
    fps: float
    frames: int
    counts: SourceCounts
    name: str
    description: str

    def read(self) -> Frame | None:
        """The next frame, or None at the end of the source, or after `close`.

        Raises EdgefelError when a live source is gone and does not come back.
        """
        ...

    def close(self) -> None:
        """Frees the device; a second call does nothing."""
        ...
