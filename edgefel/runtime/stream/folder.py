"""Folders of images: every one, in order, with nothing dropped."""

from __future__ import annotations

import time
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.frames import Frame, SourceCounts
from edgefel.runtime.stream.sources import Source, read_image
from edgefel.text import counted


class ImageFolder:
    """An image, or the images of a folder in sorted order, `fps` of them per second.

    An image that cannot be read leaves a gap in the numbering, and its path is in `skipped`; what else looks like
    images or videos is counted in `left_out`, by suffix. loop: starts again at the end; numbers and times go on,
    until nothing of a pass can be read.
    """

    live = False

    def __init__(self, source: Source, fps: float = 1.0, *, loop: bool = False) -> None:
        """source: of kind image or folder. Raises EdgefelError for an `fps` that is not greater than 0."""
        if not fps > 0:
            raise EdgefelError(f"fps is {fps}; give images per second greater than 0")
        self._source, self._loop = source, loop
        self.fps = fps
        self.frames = 0 if loop else source.frames
        self.counts = SourceCounts()
        # names of one pass are enough, and do not grow for ever
        self.skipped: list[str] = []
        self.left_out = source.left_out
        count = counted(source.frames, "image")
        self.name = str(source.path)
        self.description = f"{source.path} ({count}, {fps:g} fps)"
        self._closed = False
        self._index = self._delivered = 0

    def read(self) -> Frame | None:
        files: tuple[Path, ...] = self._source.files
        while not self._closed and (self._loop or self._index < len(files)):
            if self._index and self._index % len(files) == 0:
                if not self._delivered:
                    break
                self._delivered = 0
            index, self._index = self._index, self._index + 1
            file = files[index % len(files)]
            image = read_image(file)
            if image is not None:
                self._delivered += 1
                return Frame(index, index / self.fps, image, time.monotonic(), str(file))
            self.counts.unreadable += 1
            if index < len(files):
                self.skipped.append(str(file))
        if not self._closed and not self._delivered:
            raise EdgefelError(
                f"{self._source.path}: nothing in it can be read; is it cut short, or another format?"
            )
        return None

    def close(self) -> None:
        self._closed = True
