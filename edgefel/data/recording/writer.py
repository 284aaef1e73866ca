"""Video files that can be played up to the last frame written, even if the process is killed.

Why the containers are written here: OpenCV's FFmpeg (LGPL) is on every device already, but `cv2.VideoWriter` passes no
options to the muxer and reports no failed write. PyAV does both, but its wheels (18.1 checked) link FFmpeg with libx264
and libx265, which are under the GPL and would bind everybody who ships a device with edgefel on it; they take 104 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.data.recording.avi import Avi
from edgefel.data.recording.container import File
from edgefel.data.recording.encoders import EncodingError, JpegEncoder, Mpeg4Encoder
from edgefel.data.recording.matroska import Matroska
from edgefel.data.recording.mp4 import Mp4
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.files.unfinished import put_aside, rename_new, sync_folder
from edgefel.files.write import check_new_file, lock

_CONTAINERS: dict[str, type[Mp4 | Matroska | Avi]] = {
    ".mp4": Mp4,
    ".mov": Mp4,
    ".mkv": Matroska,
    ".avi": Avi,
}
_MOST_FPS = 240.0


def check_video_target(path: Path, *, overwrite: bool) -> None:
    """Raises EdgefelError if the suffix is not that of a video, and if `path` cannot be written or replaced."""
    native_path(path)
    if path.suffix.lower() not in _CONTAINERS:
        raise EdgefelError(f"{path}: unknown kind of video; name it {', '.join(_CONTAINERS)}")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise EdgefelError(f"{path}: is no ordinary file, and a video needs one; give another name")
    check_new_file(path, overwrite=overwrite)


class VideoWriter:
    """Writes frames with their times; each is on disk, and can be played, when `write` returns.

    MP4, MOV and Matroska keep the times. AVI has a constant rate, so a frame is repeated until the next one. The codec
    is MPEG-4, in AVI Motion JPEG. The file is NAME.part.SUFFIX until `close` completes and renames it. The part of a
    killed run is kept as NAME.interrupted.SUFFIX; a part that another run is writing is refused.
    """

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False) -> None:
        """path: .mp4, .mov, .mkv or .avi. fps: the nominal rate.

        Raises EdgefelError for another suffix, if the file exists and may not be replaced, if another run writes it,
        and where nothing can be written.
        """
        check_video_target(path, overwrite=overwrite)
        self.path, self.part = path, path.with_name(f"{path.stem}.part{path.suffix}")
        # the kept video of an earlier run; None if there was none
        self.kept: Path | None = None
        self._fps = min(max(fps, 0.01), _MOST_FPS)
        self._overwrite = overwrite
        # new folders, which `discard` removes
        self._made = [folder for folder in path.absolute().parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                self.kept = _set_aside(self.part, path)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(self.part, flags, 0o666)
                lock(self._descriptor)
        except OSError as error:
            raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
        self._file = File(self._descriptor, path)
        self._encoder: JpegEncoder | Mpeg4Encoder | None = None
        self._container: Mp4 | Matroska | Avi | None = None
        self._size = (0, 0)
        self.frames = 0
        self._closed = self._failed = False

    def write(self, image: Image, time: float) -> None:
        """image: uint8 RGB [H, W, 3]; resized to the first image's size. time: seconds since the first frame, which
        is at 0.

        Raises EdgefelError if it cannot be written; `close` then completes what was written before.
        """
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if self._encoder is None:
            self._encoder = self._open_encoder((frame.shape[1], frame.shape[0]))
        try:
            data = self._encoder.encode(self._fitted(frame))  # type: ignore[arg-type]
            if self._container is None:
                kind = _CONTAINERS[self.path.suffix.lower()]
                self._container = kind(self._file, self._size, self._fps, data)
            self._container.add(data, time)
        except BaseException as error:
            self._failed = True
            if isinstance(error, EncodingError):
                raise EdgefelError(f"{self.path}: {error}") from None
            raise
        self.frames += 1

    def close(self) -> None:
        """Completes the video and renames it; without a frame there is no file. A second call does nothing.

        Raises EdgefelError if that fails; the frames are then in `part`.
        """
        if self._closed:
            return
        if not self.frames:
            self.discard()
            return
        self._closed = True
        assert self._encoder is not None
        assert self._container is not None
        try:
            self._encoder.close()
            if os.fstat(self._descriptor).st_nlink == 0:
                if self._failed:  # `write` has reported it
                    return
                raise self._file.removed()
            self._container.finish()
            os.fsync(self._descriptor)
            if self._overwrite:
                self.part.replace(self.path)
            elif not rename_new(self.part, self.path):
                raise EdgefelError(f"{self.path}: appeared meanwhile; remove or rename it")
            sync_folder(self.path.parent)
        except EdgefelError as error:
            raise EdgefelError(f"{error}. What there is can be played: {self.part}") from None
        except OSError as error:
            raise EdgefelError(
                f"{self.path}: cannot be completed: {error.strerror}; what there is lies in {self.part}"
            ) from None
        finally:
            os.close(self._descriptor)

    def discard(self) -> None:
        """Removes the file and the folders made for it; after `close` it does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._encoder is not None:
            self._encoder.close()
        with suppress(OSError):
            self.part.unlink()
        os.close(self._descriptor)
        for folder in self._made:
            with suppress(OSError):  # not empty
                folder.rmdir()

    def _open_encoder(self, size: tuple[int, int]) -> JpegEncoder | Mpeg4Encoder:
        width, height = self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        if not width or not height:
            raise EdgefelError(f"{self.path}: frames of {size[0]}x{size[1]} pixels are too small for a video")
        try:
            return (
                JpegEncoder() if self.path.suffix.lower() == ".avi" else Mpeg4Encoder(self._fps, self._size)
            )
        except EncodingError as error:
            raise EdgefelError(f"{self.path}: {error}") from None

    def _fitted(self, frame: Image) -> Image:
        width, height = self._size
        if frame.shape[1] - width in (0, 1) and frame.shape[0] - height in (0, 1):
            return np.ascontiguousarray(frame[:height, :width])  # an odd side loses its last line
        return cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _set_aside(part: Path, path: Path) -> Path | None:
    """Renames the part of a killed run; None if there is none. Raises EdgefelError if another run is writing it."""
    try:
        left = os.open(part, os.O_RDWR)
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
    """Holds a lock on `folder`, so that two runs do not set the same part aside."""
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
