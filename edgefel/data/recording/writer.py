"""A video that is being written: beside its name, kept from other runs, and given its name when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2

from edgefel.data.recording.avi import Avi
from edgefel.data.recording.container import Container, File, Track
from edgefel.data.recording.encoders import (
    Encoder,
    Image,
    JpegEncoder,
    Mpeg4Encoder,
    decoder_config,
    is_key,
)
from edgefel.data.recording.matroska import Matroska
from edgefel.data.recording.mp4 import Mp4
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import put_aside, rename_new, sync_folder
from edgefel.files.write import lock
from edgefel.text import counted

_CONTAINERS: dict[str, type[Avi] | type[Matroska] | type[Mp4]] = {
    ".mp4": Mp4,
    ".mov": Mp4,
    ".mkv": Matroska,
    ".avi": Avi,
}
VIDEO_SUFFIXES_WRITTEN = tuple(_CONTAINERS)
_MOST_FPS = 240.0


def check_video_target(path: Path, *, overwrite: bool) -> None:
    """Raises EdgefelError for a name under which no video can be written, and for a file that may not be replaced."""
    if path.suffix.lower() not in _CONTAINERS:
        raise EdgefelError(f"{path}: unknown kind of video; name it {', '.join(_CONTAINERS)}")
    if path.is_dir():
        raise EdgefelError(f"{path}: is a folder; give a file's name")
    if path.exists() and not path.is_file():
        raise EdgefelError(f"{path}: is no ordinary file, and a video needs one; give another name")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise EdgefelError(
            f"{path}: cannot be written, {nearest} is a file, not a folder; choose another place"
        )
    if path.exists() and not overwrite:
        raise EdgefelError(f"{path}: exists; choose another name, remove it, or allow it with --overwrite")


class VideoWriter:
    """Writes frames with their times; each is on disk, and can be played, when `write` returns.

    MP4, MOV and Matroska keep the times; AVI has a constant rate, which repeats a frame until the next one. Compressed
    as MPEG-4, in AVI as Motion JPEG. The file is NAME.part.SUFFIX until `close` completes it and gives it its name. A
    part that a run left which was killed is kept as NAME.interrupted.SUFFIX; one that a run is writing is refused.
    """

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False) -> None:
        """path: .mp4, .mov, .mkv or .avi. fps: the usual rate.

        Raises EdgefelError for another suffix, if the file exists and may not be replaced, if another run writes it,
        and where nothing can be written.
        """
        check_video_target(path, overwrite=overwrite)
        self.path, self.part = path, part_of(path)
        # an earlier run's video that was kept aside; None if there was none
        self.kept: Path | None = None
        self._fps = min(max(fps, 0.01), _MOST_FPS)
        self._overwrite = overwrite
        # folders that were made for it, which go where nothing comes into them
        self._made = [folder for folder in path.absolute().parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                self.kept = _set_aside(self.part, path)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
                self._descriptor = os.open(self.part, flags | getattr(os, "O_BINARY", 0), 0o666)
                lock(self._descriptor)
        except OSError as error:
            raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
        self._file = File(self._descriptor, path)
        self._encoder: Encoder | None = None
        self._container: Container | None = None
        self._size = (0, 0)
        self._times: list[float] = []
        self.frames = 0
        self._closed = self._failed = False

    def write(self, image: Image, time: float) -> None:
        """image: uint8 RGB [H, W, 3]; one of another size is brought to that of the first. time: seconds since the
        first frame, which is at 0.

        Raises EdgefelError where it cannot be written; `close` then completes what was written before.
        """
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if self._encoder is None:
            self._encoder = self._start((frame.shape[1], frame.shape[0]))
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = self._fitted(frame)  # type: ignore[arg-type]
        self._times.append(time)
        try:
            self._add(self._encoder.encode(frame))  # type: ignore[arg-type]
        except BaseException:
            self._failed = True
            raise
        self.frames += 1

    def close(self) -> None:
        """Completes the video and gives it its name; without a frame there is none. A second call does nothing.

        Raises EdgefelError where that cannot be done; then what there is lies in `part`.
        """
        if self._closed:
            return
        if not self.frames:
            self.discard()
            return
        self._closed = True
        try:
            assert self._encoder is not None
            rest = self._encoder.finish()
            if os.fstat(self._descriptor).st_nlink == 0:
                if self._failed:  # which told it
                    return
                raise self._file.removed()
            if not self._failed:
                self._add(rest)
                if self._times:
                    raise EdgefelError(f"{self.path}: the encoder lost {counted(len(self._times), 'frame')}")
            if self._container is not None:
                self._container.finish()
            os.fsync(self._descriptor)
            self._give_name()
        except EdgefelError as error:
            raise EdgefelError(f"{error}. What there is can be played: {self.part}") from None
        except OSError as error:
            raise EdgefelError(
                f"{self.path}: cannot be completed: {error.strerror}; what there is lies in {self.part}"
            ) from None
        finally:
            os.close(self._descriptor)

    def discard(self) -> None:
        """Leaves nothing behind; after `close` it does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._encoder is not None:
            self._encoder.finish()
        with suppress(OSError):
            self.part.unlink()
        os.close(self._descriptor)
        for folder in self._made:
            with suppress(OSError):  # somebody else put something into it
                folder.rmdir()

    def _start(self, size: tuple[int, int]) -> Encoder:
        width, height = self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        if not width or not height:
            raise EdgefelError(f"{self.path}: frames of {size[0]}x{size[1]} pixels are too small for a video")
        try:
            if self.path.suffix.lower() == ".avi":
                return JpegEncoder()
            return Mpeg4Encoder(self._fps, self._size)
        except EdgefelError as error:
            raise EdgefelError(f"{self.path}: {error}") from None

    def _fitted(self, frame: Image) -> Image:
        width, height = self._size
        if frame.shape[1] - width in (0, 1) and frame.shape[0] - height in (0, 1):
            return frame[:height, :width].copy()  # an odd side loses its last line
        return cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

    def _add(self, encoded: list[bytes]) -> None:
        for data in encoded:
            if self._container is None:
                assert self._encoder is not None
                codec = self._encoder.codec
                track = Track(codec, self._size, self._fps, decoder_config(codec, data))
                self._container = _CONTAINERS[self.path.suffix.lower()](self._file, track)
            assert self._encoder is not None
            self._container.add(data, self._times.pop(0), is_key(self._encoder.codec, data))

    def _give_name(self) -> None:
        if self._overwrite:
            self.part.replace(self.path)
        elif not rename_new(self.part, self.path):
            raise EdgefelError(f"{self.path}: appeared meanwhile; remove or rename it")
        sync_folder(self.path.parent)


def part_of(path: Path) -> Path:
    """What a video is called while it is written."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def _set_aside(part: Path, path: Path) -> Path | None:
    """Gives what a dead run left a name of its own; None if there is nothing. Refuses what a living one writes."""
    try:
        left = os.open(part, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    try:
        if not lock(left):
            raise EdgefelError(f"{path}: another run is recording to it; give this one a file of its own")
        if os.fstat(left).st_size == 0:
            part.unlink()
            return None
        return put_aside(part, path, "interrupted")
    finally:
        os.close(left)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One run at a time looks for what another left."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)
