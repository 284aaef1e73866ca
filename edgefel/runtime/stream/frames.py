"""Frames, and the interface of their sources: cameras, streams, videos and folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgefel.data.preprocessing import Image


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: position in the source, from 0; missing numbers were dropped or lost. time: seconds since the first frame, by
    the file's clock, or by this machine's for a live source. image: uint8 RGB [H, W, 3]. captured: `time.monotonic()`
    when it was read. name: path of an image in a folder.
    """

    index: int
    time: float
    image: Image
    captured: float
    name: str | None = None


@dataclass
class SourceCounts:
    """Losses of a source so far.

    unreadable: frames that could not be decoded. reconnects: how often a live source was reopened.
    resolution_changes: how often the frame size changed. missing: frames that a file announces but does not contain,
    known at its end. overwritten: frames of a live source that were replaced before they were read.
    """

    unreadable: int = 0
    reconnects: int = 0
    resolution_changes: int = 0
    missing: int = 0
    overwritten: int = 0


class FrameSource(Protocol):
    """A source of frames. One thread reads it; another may call `close`, which ends a waiting `read`.

    live: frames arrive whether or not they are read. fps: frames per second, 0 if unknown. frames: the expected number,
    0 if unknown or endless. name: as given by the user, without a password. description: the name with what was found,
    such as "camera 0 (640x480, 30 fps)".
    """

    live: bool
    fps: float
    frames: int
    counts: SourceCounts
    name: str
    description: str

    def read(self) -> Frame | None:
        """The next frame; None at the end of the source and after `close`.

        Raises EdgefelError if a live source failed and could not be reopened.
        """
        ...

    def close(self) -> None:
        """Releases the device; a second call does nothing."""
        ...
