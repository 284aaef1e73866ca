"""From images to compressed frames, one by one, with the encoders that come with OpenCV."""

from __future__ import annotations

import os
import select
import shutil
import struct
import tempfile
import threading
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.recording.container import Codec
from edgefel.errors import EdgefelError

Image = npt.NDArray[np.uint8]

_JPEG_QUALITY = 92
_GOODBYE = 10.0
_CHUNK, _LIST = struct.Struct("<4sI"), b"LIST"


class Encoder(Protocol):
    """Takes BGR frames of one size, gives compressed ones in the same order, some of them perhaps later."""

    codec: Codec

    def encode(self, frame: Image) -> list[bytes]:
        """Those that are ready."""
        ...

    def finish(self) -> list[bytes]:
        """The rest; a second call gives none."""
        ...


class JpegEncoder:
    """Each frame for itself: large, and as it was."""

    codec: Codec = "jpeg"

    def encode(self, frame: Image) -> list[bytes]:
        written, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not written:
            raise EdgefelError("a frame cannot be encoded as JPEG")
        return [data.tobytes()]

    def finish(self) -> list[bytes]:
        return []


class Mpeg4Encoder:
    """FFmpeg's MPEG-4 encoder inside OpenCV's wheels.

    OpenCV can write to a file alone: its containers keep up to 256 KB back, or all of an MP4's index, and say nothing
    of a disk that is full. So FFmpeg writes an AVI without an index into a named pipe, which it empties after every
    frame, and the frames are taken from there.
    """

    codec: Codec = "mpeg4"

    def __init__(self, fps: float, size: tuple[int, int]) -> None:
        """size: (width, height), both even. Raises EdgefelError where OpenCV has no such encoder."""
        if not hasattr(os, "mkfifo"):
            raise EdgefelError("this system has no named pipes; save the video as .avi")
        try:
            folder = Path(tempfile.mkdtemp(prefix="edgefel-"))
            pipe = folder / "frames.avi"
            os.mkfifo(pipe)
        except OSError as error:
            raise EdgefelError(
                f"the encoder needs a temporary folder ({error.strerror}); set TMPDIR to one that can be written, "
                f"or save the video as .avi"
            ) from None
        try:
            self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(pipe), cv2.CAP_FFMPEG, codec, fps, size)
        finally:  # open files need no name
            shutil.rmtree(folder, ignore_errors=True)
        if not self._writer.isOpened():
            os.close(self._pipe)
            raise EdgefelError("OpenCV has no MPEG-4 encoder here; save the video as .avi")
        self._size = size
        self._arrived = bytearray()
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = threading.Thread(
            target=self._read, name="encoder", daemon=True
        )
        self._reader.start()
        self._in_frames = False

    def encode(self, frame: Image) -> list[bytes]:
        self._writer.write(frame)
        self._take()
        return self._complete()

    def finish(self) -> list[bytes]:
        reader, self._reader = self._reader, None
        if reader is None:
            return []
        self._writer.release()
        reader.join(_GOODBYE)
        return self._complete()

    def _read(self) -> None:
        """Empties the pipe all the time: a frame may be larger than it."""
        readable = select.poll()
        readable.register(self._pipe, select.POLLIN)
        while True:
            readable.poll()
            if not self._take():
                break
        os.close(self._pipe)

    def _take(self) -> bool:
        """What lies in the pipe now; False at its end."""
        with self._lock:
            try:
                while data := os.read(self._pipe, 1 << 20):
                    self._arrived += data
            except BlockingIOError:
                return True
            return False

    def _complete(self) -> list[bytes]:
        """Takes the whole frames out of what has arrived: chunks "00dc" in the list "movi"."""
        frames = []
        with self._lock:
            if not self._in_frames:
                start = self._arrived.find(b"movi")
                if start < 0:
                    return []
                del self._arrived[: start + 4]
                self._in_frames = True
            while len(self._arrived) >= _CHUNK.size:
                name, length = _CHUNK.unpack_from(self._arrived)
                end = _CHUNK.size + length + length % 2
                if len(self._arrived) < end:
                    break
                if name == b"00dc" and length:
                    frames.append(bytes(self._arrived[_CHUNK.size : _CHUNK.size + length]))
                del self._arrived[:end]
        return frames


def is_key(codec: Codec, data: bytes) -> bool:
    """Whether a frame can be decoded without those before it: FFmpeg puts the sequence header before such ones."""
    return codec == "jpeg" or data.startswith(b"\0\0\1\xb0")


def decoder_config(codec: Codec, data: bytes) -> bytes:
    """The sequence header of the first frame: all before its group's (B3) or image's (B6) start code."""
    if codec == "jpeg":
        return b""
    ends = [place for code in (b"\0\0\1\xb3", b"\0\0\1\xb6") if (place := data.find(code)) >= 0]
    return data[: min(ends)] if ends else b""
