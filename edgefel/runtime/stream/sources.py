"""Where images come from: an image file, a folder, a video; and images as a source of frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from edgefel.data.images import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    UnreadableImageError,
    find_images,
    left_out_text,
    read_rgb,
)
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.devices import open_video
from edgefel.runtime.stream.frames import Frame, SourceCounts
from edgefel.runtime.stream.video import VideoFile
from edgefel.text import counted
from edgefel.workers import in_threads

AHEAD = 2
NO_PIXELS: Image = np.zeros((0, 0, 3), np.uint8)
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    name: path of the image, or of the video; None for an array. image: uint8 RGB [H, W, 3]. frame: number of the video
    frame from 0, and time: its time in seconds; None for images. error: why it could not be read, in which case it has
    NO_PIXELS.
    """

    name: str | None
    image: Image
    frame: int | None = None
    time: float | None = None
    error: UnreadableImageError | None = None


@dataclass(frozen=True)
class Source:
    """What `open_source` found. files: the images, or the one video. frames: how many images to expect.

    fps: frames per second of a video, else 0. left_out: what else in a folder looks like images or videos, by suffix.
    """

    kind: Literal["image", "folder", "video"]
    path: Path
    files: tuple[Path, ...]
    frames: int
    fps: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def images(
        self,
        skip: Callable[[Path, str], None] = lambda path, reason: None,
        every: int = 1,
        lost: Callable[[int], None] = lambda frames: None,
    ) -> Generator[SourceImage, None, None]:
        """The images in order; unreadable ones are told to `skip`, with the reason. `every`: each n-th frame of a
        video. `lost` is told at the end how many frames of a video were missing or could not be decoded. While one
        image is used, a thread decodes the next AHEAD."""
        if self.kind == "video":
            opener = partial(open_video, self.path)
            with closing(VideoFile(opener, str(self.path), every=every)) as video:
                for frame in iter(video.read, None):
                    yield SourceImage(str(self.path), frame.image, frame.index, round(frame.time, 6))
                lost(video.counts.missing + video.counts.unreadable)
            return
        with closing(in_threads(_read, self.files, min(1, len(self.files) - 1), ahead=AHEAD)) as images:
            for file, image in zip(self.files, images, strict=True):
                if isinstance(image, UnreadableImageError):
                    skip(file, image.reason)
                else:
                    yield SourceImage(str(file), image)


def _read(file: Path) -> Image | UnreadableImageError:
    try:
        return read_rgb(file)
    except UnreadableImageError as error:
        return error


def open_source(path: str | os.PathLike[str]) -> Source:
    """Looks at a path: an image, a video, or a folder searched for images at any depth, in sorted order.

    Files and folders whose name begins with a dot are left out.

    Raises EdgefelError: nothing there, a folder without images, a video that cannot be opened, another
    kind of file.
    """
    path = Path(path)
    if path.is_dir():
        found = find_images(path, OTHER_SUFFIXES | VIDEO_SUFFIXES)
        if not found.files:
            others = f"{left_out_text(found.left_out)}; " if found.left_out else ""
            raise EdgefelError(
                f"{path}: no images in it; {others}known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        return Source("folder", path, found.files, len(found.files), left_out=found.left_out)
    if not path.exists():
        raise EdgefelError(f"{path}: no such file or folder; give an image, a folder of images, or a video")
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return Source("image", path, (path,), 1)
    if suffix in VIDEO_SUFFIXES:
        device = open_video(path)
        device.close()
        return Source("video", path, (path,), device.frames, device.fps or 25.0)
    if suffix in OTHER_SUFFIXES:
        raise EdgefelError(f"{path}: {suffix} is not read here; convert it to JPEG or PNG")
    known = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
    raise EdgefelError(f"{path}: not a kind of file that can be labelled; known suffixes: {known}")


class FolderSource:
    """An image, or the images of a folder in sorted order, at `fps` images per second.

    unrelated: they are no sequence, since no rate was given; they come one second apart.
    An unreadable image leaves a gap in the numbering, and its path is in `skipped`. `left_out` counts other images and
    videos by suffix. loop: starts again at the end with continuing numbers and times, until a whole pass is unreadable.
    """

    live = False

    def __init__(self, source: Source, fps: float | None = None, *, loop: bool = False) -> None:
        """source: of kind image or folder."""
        self._source, self._loop = source, loop
        self.unrelated = fps is None
        self.fps = fps = 1.0 if fps is None else fps
        self.frames = 0 if loop else source.frames
        self.counts = SourceCounts()
        # of the first pass, so that a loop does not grow without bound
        self.skipped: list[str] = []
        self.left_out = source.left_out
        self.name = str(source.path)
        self.description = f"{source.path} ({counted(source.frames, 'image')}, {fps:g} fps)"
        self._closed = False
        self._index = self._delivered = 0

    def read(self) -> Frame | None:
        files = self._source.files
        while not self._closed and (self._loop or self._index < len(files)):
            if self._index and self._index % len(files) == 0:
                if not self._delivered:
                    break
                self._delivered = 0
            index, self._index = self._index, self._index + 1
            file = files[index % len(files)]
            try:
                image = read_rgb(file)
            except UnreadableImageError:
                self.counts.unreadable += 1
                if index < len(files):
                    self.skipped.append(str(file))
                continue
            self._delivered += 1
            return Frame(index, index / self.fps, image, time.monotonic(), str(file))
        if not self._closed and not self._delivered:
            raise EdgefelError(f"{self.name}: nothing in it can be read; is it cut short, or another format?")
        return None

    def close(self) -> None:
        self._closed = True
