"""Image files and folders as a source of frames; none is dropped."""

from __future__ import annotations

import time
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.frames import Frame, SourceCounts
from edgefel.runtime.stream.sources import Source, read_image
from edgefel.text import counted


class FolderSource:
    """An image, or the images of a folder in sorted order, at `fps` images per second.

    An unreadable image leaves a gap in the numbering, and its path is in `skipped`. `left_out` counts other images and
    videos by suffix. loop: starts again at the end with continuing numbers and times, until a whole pass is unreadable.
    """

    live = False

    def __init__(self, source: Source, fps: float = 1.0, *, loop: bool = False) -> None:
        """source: of kind image or folder. Raises EdgefelError unless `fps` is greater than 0."""
        if not fps > 0:
            raise EdgefelError(f"fps is {fps}; give images per second greater than 0")
        self._source, self._loop = source, loop
        self.fps = fps
        self.frames = 0 if loop else source.frames
        self.counts = SourceCounts()
        # of the first pass, so that a loop does not grow without bound
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
