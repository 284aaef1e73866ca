"""Streams for tests: images in memory with squares, a detector that finds them, and small videos of grey frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.stream.frames import Frame, FrameSource, SourceCounts

RED, GREEN, BLUE = (255, 40, 40), (40, 255, 40), (40, 40, 255)
Square = tuple[int, int, int, tuple[int, int, int]]  # left, top, side, colour


def scene(squares: Sequence[Square], size: tuple[int, int] = (320, 240)) -> Image:
    """uint8 RGB [height, width, 3] for a size of (width, height)."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for left, top, side, colour in squares:
        image[top : top + side, left : left + side] = colour
    return image


class SquareDetector:
    """Finds squares that are not black. seconds: what it takes at least."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self, image: Image) -> list[FaceBox]:
        self.calls += 1
        time.sleep(self.seconds)
        lit = (image.max(axis=2) > 20).astype(np.uint8)
        _, _, rows, _ = cv2.connectedComponentsWithStats(lit)
        boxes = [FaceBox(int(x), int(y), int(max(w, h)), 1.0) for x, y, w, h, _ in rows[1:]]
        return sorted(boxes, key=lambda box: (-box.side, box.x, box.y))


class ListSource:
    """Frames from memory. live: they come at `fps`, whether they are read or not; error: raised at their end."""

    name = "memory"
    description = "memory (test)"

    def __init__(
        self,
        images: Iterable[Image],
        *,
        fps: float = 30.0,
        live: bool = False,
        error: EdgefelError | None = None,
        names: bool = False,
    ) -> None:
        self._images = list(images)
        self._error, self._names = error, names
        self._closed = threading.Event()
        self._index = 0
        self._began = 0.0
        self.fps, self.live, self.frames = fps, live, len(self._images)
        self.counts = SourceCounts()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def read(self) -> Frame | None:
        self._began = self._began or time.monotonic()
        if self.live:
            self._closed.wait(max(0.0, self._began + self._index / self.fps - time.monotonic()))
        if self.closed:
            return None
        if self._index == len(self._images):
            if self._error is not None:
                raise self._error
            return None
        index, self._index = self._index, self._index + 1
        name = f"{index}.png" if self._names else None
        return Frame(index, index / self.fps, self._images[index], time.monotonic(), name)

    def close(self) -> None:
        self._closed.set()


def shade(number: int) -> int:
    """Grey of a frame, told apart also after compression."""
    return 10 + 8 * number


def write_video(
    file: Path, count: int = 24, size: tuple[int, int] = (64, 48), codec: str = "MJPG", fps: float = 20.0
) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), shade(number), np.uint8))
    writer.release()
    return file


def cut(file: Path, share: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    return file


def all_frames(source: FrameSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def moving(frames: int, colours=(RED, GREEN)) -> list[np.ndarray]:
    return [
        scene([(20 + frame, 20 + 100 * row, 60, colour) for row, colour in enumerate(colours)])
        for frame in range(frames)
    ]
