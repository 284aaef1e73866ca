"""From images to compressed frames, one by one, with the encoders that come with OpenCV."""

from __future__ import annotations

import os
import queue
import shutil
import struct
import tempfile
import threading
from pathlib import Path

import cv2

from edgefel.data.preprocessing import Image

_JPEG_QUALITY = 92
_TIMEOUT = 10.0  # seconds; a frame is in the pipe when OpenCV's `write` returns
_CHUNK = struct.Struct("<4sI")


class EncodingError(Exception):
    """What failed, without the file's name; `VideoWriter` adds it."""


class JpegEncoder:
    """Every frame is a JPEG image: large files, high quality."""

    def encode(self, frame: Image) -> bytes:
        written, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not written:
            raise EncodingError("a frame cannot be encoded as JPEG")
        return data.tobytes()

    def close(self) -> None:
        pass


class Mpeg4Encoder:
    """FFmpeg's MPEG-4 encoder inside OpenCV's wheels, without B-frames: one compressed frame for each frame.

    OpenCV writes only to files. Its containers buffer up to 256 KB, or the whole index of an MP4, take no muxer
    options, and do not report a full disk. So FFmpeg writes an AVI without an index into a named pipe, which it flushes
    after every frame, and a thread takes the frames from there.
    """

    def __init__(self, fps: float, size: tuple[int, int]) -> None:
        """size: (width, height), both even. Raises EncodingError if OpenCV has no such encoder."""
        if not hasattr(os, "mkfifo"):
            raise EncodingError("this system has no named pipes; save the video as .avi")
        try:
            folder = Path(tempfile.mkdtemp(prefix="edgefel-"))
            pipe = folder / "frames.avi"
            os.mkfifo(pipe)
        except OSError as error:
            raise EncodingError(
                f"the encoder needs a temporary folder ({error.strerror}); set TMPDIR to one that can be written, "
                f"or save the video as .avi"
            ) from None
        try:
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # would else wait for the writer
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(pipe), cv2.CAP_FFMPEG, codec, fps, size)
        finally:  # open files need no name
            shutil.rmtree(folder, ignore_errors=True)
        if not self._writer.isOpened():
            os.close(descriptor)
            raise EncodingError("OpenCV has no MPEG-4 encoder here; save the video as .avi")
        os.set_blocking(descriptor, True)
        self._frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(descriptor,), name="encoder", daemon=True)
        self._reader.start()

    def encode(self, frame: Image) -> bytes:
        self._writer.write(frame)
        try:
            return self._frames.get(timeout=_TIMEOUT)
        except queue.Empty:
            raise EncodingError("the encoder lost a frame") from None

    def close(self) -> None:
        self._writer.release()  # ends the pipe, and with it the thread
        self._reader.join()

    def _read(self, descriptor: int) -> None:
        """Takes the chunks "00dc" out of the list "movi"; a frame may be larger than the pipe."""
        with open(descriptor, "rb") as stream:
            head = b""
            while head[-4:] != b"movi" and (byte := stream.read(1)):
                head += byte
            while len(head := stream.read(_CHUNK.size)) == _CHUNK.size:
                name, length = _CHUNK.unpack(head)
                data = stream.read(length)
                if name == b"00dc" and data:
                    self._frames.put(data)
                stream.read(length % 2)
