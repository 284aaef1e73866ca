"""Frames of a gst-launch-1.0 child process; this does not depend on how OpenCV was built.

The frames come through a pipe in the GStreamer Data Protocol (element gdppay of gst-plugins-bad). It puts a header with
length and timestamp before every buffer, and sends the format before the first buffer and whenever it changes. The pipe
is not the child's standard output, because NVIDIA's camera driver prints there.

Header of version 1.0, 62 bytes, big-endian: major, minor, flags, padding (8 bits each), type (16), length (32),
timestamp in ns (64), at byte 42 the buffer's flags (16), and fields that are not used here. Source: gst-plugins-bad,
gst/gdp/dataprotocol.c.

A network stream usually starts between two key frames, and decoders then return frames that are mostly grey. The
pipeline of such a stream therefore also sends the coded frames, each before its decoded one. Their headers have no
checksum, which identifies them, and their flags tell which decoded frames are complete.
"""

from __future__ import annotations

import logging
import math
import os
import re
import select
import struct
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.gstreamer import CODED, LAUNCH, Pipeline, check_installed

_HEADER = struct.Struct(">BBBBHIQ")
HEADER_BYTES = 62
_BUFFER, _CAPS = 1, 2
_NO_TIME = (1 << 64) - 1
# bits of the header's flags and of the buffer's flags
_HAS_CHECKSUM, _DISCONTINUOUS, _DELTA = 1, 1 << 6, 1 << 13
_FLAGS_AT = 42
# seconds after which a stream is assumed to have no key frames, as with gradual refresh
_NO_KEY_FRAMES = 10.0
# a larger length means that this is not a header
_MOST_BYTES = 1 << 28
# bytes per pixel, and the conversion to RGB if one is needed
_FORMATS: dict[str, tuple[int, int | None]] = {
    "RGB": (3, None),
    "BGR": (3, cv2.COLOR_BGR2RGB),
    "RGBA": (4, cv2.COLOR_RGBA2RGB),
    "RGBx": (4, cv2.COLOR_RGBA2RGB),
    "BGRA": (4, cv2.COLOR_BGRA2RGB),
    "BGRx": (4, cv2.COLOR_BGRA2RGB),
}
_PIPE_BYTES = 1 << 20
_log = logging.getLogger("edgefel.runtime")


@dataclass(frozen=True)
class RawFormat:
    """Layout of raw frames. fps: 0 if unknown. stride: bytes per row, padded to 4.

    Raises EdgefelError for a pixel format or size that is not supported.
    """

    width: int
    height: int
    pixel: str
    fps: float

    def __post_init__(self) -> None:
        if self.pixel not in _FORMATS or self.width < 1 or self.height < 1:
            raise EdgefelError(
                f"GStreamer sends {self.width}x{self.height} {self.pixel}, which cannot be read here"
            )

    @classmethod
    def parse(cls, caps: str) -> RawFormat:
        """Parses caps such as `video/x-raw, format=(string)RGB, width=(int)640, ...`."""
        fields = dict(re.findall(r"([\w-]+)=\(\w+\)([^,;\s]+)", caps))
        numerator, _, denominator = fields.get("framerate", "0/1").partition("/")
        try:
            fps = int(numerator) / max(1, int(denominator or 1))
            return cls(int(fields["width"]), int(fields["height"]), fields["format"], fps)
        except (KeyError, ValueError):
            raise EdgefelError(f"GStreamer sends {caps!r}, which is no raw video") from None

    @property
    def stride(self) -> int:
        return (self.width * _FORMATS[self.pixel][0] + 3) // 4 * 4

    def image(self, data: Image) -> Image | None:
        """uint8 [bytes] -> a copy as RGB [H, W, 3]; None if a frame has more bytes."""
        if data.size < self.stride * self.height:
            return None
        channels, code = _FORMATS[self.pixel]
        rows = data[: self.stride * self.height].reshape(self.height, self.stride)
        pixels = rows[:, : self.width * channels].reshape(self.height, self.width, channels)
        return (
            np.ascontiguousarray(pixels) if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)
        )


class _KeyFrames:
    """Tells which decoded frames are complete: those from a key frame on, until a coded frame is lost."""

    def __init__(self) -> None:
        # frames from the first to before the second time are broken
        self._broken = (0.0, math.inf)
        self._since = time.monotonic()

    def add(self, flags: int, stamp: int) -> None:
        """Adds a coded frame: the flags of its buffer and its timestamp."""
        start, end = self._broken
        if flags & _DELTA and flags & _DISCONTINUOUS and end < math.inf:
            self._broken, self._since = (stamp, math.inf), time.monotonic()
        elif not flags & _DELTA and end == math.inf:
            self._broken = (start, 0.0 if stamp == _NO_TIME else stamp)
        elif end == math.inf and time.monotonic() - self._since > _NO_KEY_FRAMES:
            _log.warning("no key frame came for %g seconds: images may be broken at first", _NO_KEY_FRAMES)
            self._broken = (0.0, 0.0)

    def is_whole(self, stamp: int) -> bool:
        """Whether the decoded frame with this timestamp is complete."""
        start, end = self._broken
        return end < math.inf if stamp == _NO_TIME else not start <= stamp < end


class GstDevice:
    """A running pipeline as a `Device`. skipped: frames before the first complete one."""

    def __init__(
        self, pipeline: Pipeline, name: str, *, first_frame: float = 15.0, stall: float = 5.0, frames: int = 0
    ) -> None:
        """Starts the pipeline and waits for its first frame.

        name: for messages. first_frame, stall: seconds to wait for the first and for each later frame. frames: the
        announced number, 0 if unknown. Raises EdgefelError with GStreamer's message if no frame comes in time.
        """
        check_installed(("gdppay", *_elements(pipeline)))
        self.frames = frames
        self.size, self.fps = (0, 0), 0.0
        self.reader = "GStreamer, decoded by hardware" if "nvv4l2decoder" in pipeline else "GStreamer"
        self._wait = first_frame
        self._format: RawFormat | None = None
        self._data: Image = np.empty(0, np.uint8)
        self._stamp = _NO_TIME
        self._failure = ""
        self._cancelled = False
        self._pipe, self._process = _launch(pipeline)
        # select() accepts no descriptor above 1023
        self._readable = select.poll()
        self._readable.register(self._pipe, select.POLLIN)
        self._said: deque[str] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._listen, name="gstreamer messages", daemon=True)
        self._listener.start()
        self._ahead = False
        self._key_frames = _KeyFrames() if CODED in pipeline else None
        self.skipped = 0
        while (alive := self.grab()) and not self._is_whole():
            self.skipped += 1
        if not alive:
            reason = self.failure() or "it ended without a frame"
            self.close()
            raise EdgefelError(f"{name}: GStreamer gives no frame: {reason}")
        self._ahead = True
        self._wait = stall

    def grab(self) -> bool:
        if self._ahead:  # the first frame was read to learn the format
            self._ahead = False
            return True
        try:
            while not self._cancelled and (header := self._read(HEADER_BYTES)) is not None:
                major, _, marks, _, kind, length, stamp = _HEADER.unpack_from(header.data)
                if major != 1 or length > _MOST_BYTES:
                    self._failure = "what it sends is not the GStreamer Data Protocol 1.0"
                    return False
                payload = self._read(length)
                if payload is None:
                    return False
                if self._key_frames is not None and not marks & _HAS_CHECKSUM:
                    if kind == _BUFFER:
                        flags = int.from_bytes(header[_FLAGS_AT : _FLAGS_AT + 2].tobytes(), "big")
                        self._key_frames.add(flags, stamp)
                elif kind == _CAPS:
                    caps = payload.tobytes().rstrip(b"\0").decode(errors="replace")
                    self._format = RawFormat.parse(caps)
                    self.size, self.fps = (self._format.width, self._format.height), self._format.fps
                elif kind == _BUFFER and self._format is not None:
                    self._data, self._stamp = payload, stamp
                    return True
        except EdgefelError as error:
            self._failure = str(error)
        return False

    def _is_whole(self) -> bool:
        return self._key_frames is None or self._key_frames.is_whole(self._stamp)

    def retrieve(self) -> Image | None:
        return self._format.image(self._data) if self._format is not None and self._is_whole() else None

    def time(self) -> float | None:
        return None if self._stamp == _NO_TIME else self._stamp / 1e9

    def failure(self) -> str:
        if self._failure or self._cancelled:
            return self._failure
        try:
            code = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._listener.join(2.0)
        if code == 0:
            return ""
        said = list(self._said)  # a copy: the listener may still append
        # "ERROR: from element /GstPipeline:pipeline0/GstFileSrc:filesrc0: what went wrong"
        errors = [
            re.sub(r"^ERROR: (from element \S+: )?", "", line) for line in said if line.startswith("ERROR")
        ]
        return (errors or said[-1:] or [f"{LAUNCH} ended with {code}"])[0]

    def cancel(self) -> None:
        self._cancelled = True
        self._process.kill()

    def close(self) -> None:
        self._cancelled = True
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._process.kill()
        self._process.wait()
        self._listener.join(2.0)

    def _read(self, count: int) -> Image | None:
        """A new array of `count` bytes; None at the end, and if they do not come in time."""
        data = np.empty(count, np.uint8)
        view = data.data
        deadline = time.monotonic() + self._wait
        done = 0
        while done < count:
            rest = deadline - time.monotonic()
            if rest <= 0 or not self._readable.poll(1e3 * rest):
                self._failure = f"no frame came for {self._wait:g} seconds"
                return None
            got = os.readv(self._pipe, [view[done:]])
            if not got:
                return None
            done += got
        return data

    def _listen(self) -> None:
        """Keeps the last lines; the child would block on a full pipe."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._said.append(line.decode(errors="replace").strip())


def _launch(pipeline: Pipeline) -> tuple[int, subprocess.Popen[bytes]]:
    """The read end of a pipe, and the child that writes to the other end."""
    reading, writing = os.pipe()
    with suppress(ImportError, OSError):
        import fcntl

        # with 64 KB, a large frame would need hundreds of context switches
        fcntl.fcntl(reading, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
    # one pipe for both kinds of frames keeps their order; async=false: the first coded frame must not wait for a
    # decoded one
    both = ("both.", "funnel", "name=both", "forward-sticky-events=false", "!") if CODED in pipeline else ()
    sink = ("fdsink", f"fd={writing}", "sync=false", *(("async=false",) if both else ()))
    command = [LAUNCH, "-q", *pipeline, "!", "gdppay", "!", *both, *sink]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            # keeps Ctrl-C from the child, which this program ends
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise EdgefelError(f"{LAUNCH}: cannot be started: {error}") from None
    finally:
        os.close(writing)
    return reading, process


def _elements(pipeline: Pipeline) -> list[str]:
    """Names of the elements: the first word of each chain and every word after a "!", except formats and references to
    named elements ("coded."). A reference after a "!" ends a chain."""
    starts = [
        i
        for i in range(len(pipeline))
        if i == 0
        or pipeline[i - 1] == "!"
        or (i > 1 and pipeline[i - 1].endswith(".") and pipeline[i - 2] == "!")
    ]
    return [pipeline[i] for i in starts if "/" not in pipeline[i] and not pipeline[i].endswith(".")]
