"""Where images come from: an image file, a folder, a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

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
from edgefel.runtime.stream.video import VideoFile

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    name: path of the image, or of the video. image: uint8 RGB [H, W, 3]. frame: number of the video frame
    from 0, and time: its time in seconds; None for images.
    """

    name: str
    image: Image
    frame: int | None = None
    time: float | None = None


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
    ) -> Iterator[SourceImage]:
        """The images in order; unreadable ones are told to `skip`, with the reason. `every`: each n-th frame of a
        video. `lost` is told at the end how many frames of a video were missing or could not be decoded."""
        if self.kind == "video":
            yield from _video_frames(self.path, every, lost)
            return
        for file in self.files:
            try:
                image = _read(file)
            except UnreadableImageError as error:
                skip(file, error.reason)
                continue
            yield SourceImage(str(file), image)


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


def read_image(path: str | os.PathLike[str]) -> Image | None:
    """uint8 RGB [H, W, 3], or None if the file is no whole, readable image. EXIF orientation is applied."""
    try:
        return _read(Path(path))
    except UnreadableImageError:
        return None


def _read(path: Path) -> Image:
    # not imread: it fills what a truncated JPEG lacks with grey, where imdecode refuses the file
    return read_rgb(path)


def _video_frames(path: Path, every: int, lost: Callable[[int], None]) -> Iterator[SourceImage]:
    with closing(VideoFile(partial(open_video, path), str(path), every=every)) as video:
        while (frame := video.read()) is not None:
            yield SourceImage(str(path), frame.image, frame.index, round(frame.time, 6))
        lost(video.counts.missing + video.counts.unreadable)
