"""Devices that deliver frames: the interface, and OpenCV's cameras, streams and videos."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.text import counted, without_password

# seconds that a network stream may take to be opened, and to send its next frame
OPEN_TIMEOUT, READ_TIMEOUT = 8.0, 4.0
_MJPG = cv2.VideoWriter.fourcc(*"MJPG")
# FFmpeg's threads do not pay off for small frames: they take 0.7 ms of CPU time per frame at 640x480. Each holds a
# frame back, by default as many as there are cores: live frames would be half a second old on a machine with eight.
_ONE_THREAD = [cv2.CAP_PROP_N_THREADS, 1]
_FILE_PIXELS, _LIVE_PIXELS = 1280 * 720, 1920 * 1080
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
# files without an index announce absurd numbers
_MOST_FRAMES = 1 << 40


class CaptureDevice(Protocol):
    """An open camera, stream or video. One thread reads and closes it; another may `cancel`.

    size: (width, height) of the first frame, (0, 0) while unknown. fps: frames per second, 0 if unknown. frames: the
    announced number, 0 if unknown. reader: name of the decoder, for messages. skipped: incomplete frames before the
    first complete one.
    """

    size: tuple[int, int]
    fps: float
    frames: int
    reader: str
    skipped: int

    def grab(self) -> bool:
        """Waits for the next frame; False at the end, and after a failure or `cancel`."""

    def retrieve(self) -> Image | None:
        """The grabbed frame, uint8 RGB [H, W, 3], owned by the caller; None if it cannot be decoded."""

    def time(self) -> float | None:
        """Timestamp of the grabbed frame in seconds; None if it has none."""

    def failure(self) -> str:
        """Why `grab` returned False, as far as known; empty at an ordinary end."""

    def cancel(self) -> None:
        """Ends a waiting `grab` if possible."""

    def close(self) -> None:
        """Releases the device; a second call does nothing."""


def describe(device: CaptureDevice, name: str, fps: float) -> str:
    """The name of a source with the size, rate and length that its device has, as far as known."""
    width, height = device.size
    details = [f"{width}x{height}"] if width and height else []
    details += [f"{fps:g} fps"] if fps else []
    details += [counted(device.frames, "frame")] if device.frames else []
    return f"{name} ({', '.join([*details, device.reader])})"


class OpenCVDevice:
    """`cv2.VideoCapture`.

    OpenCV resizes every frame from FFmpeg to the size of the first one, which hides a change of resolution. Motion
    JPEG, which most network cameras and their bridges send, is therefore read undecoded and decoded here. This reveals
    changes of size, and rejects truncated frames instead of filling them with grey.
    """

    # FFmpeg returns nothing before the first key frame
    skipped = 0

    def __init__(self, capture: cv2.VideoCapture, *, jpeg: bool = False) -> None:
        self._capture = capture
        self._jpeg = jpeg
        self._decoded: npt.NDArray[Any] | None = None
        # otherwise OpenCV would rotate the undecoded bytes
        if jpeg:
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._turn = _TURNS.get(round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360) if jpeg else None
        self.size = (max(0, int(capture.get(3))), max(0, int(capture.get(4))))
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else 0.0
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(frames) if 0 < frames < _MOST_FRAMES else 0
        self.reader = f"OpenCV {capture.getBackendName()}{', Motion JPEG' if jpeg else ''}"

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> Image | None:
        # OpenCV reuses this buffer; returned frames are copies
        readable, frame = self._capture.retrieve(self._decoded)
        self._decoded = frame if readable else None
        if readable and self._jpeg:
            frame = _decoded(np.asarray(frame, np.uint8))
        if not readable or not frame.size:
            return None
        if self._turn is not None:
            frame = cv2.rotate(frame, self._turn)
        # monochrome cameras have one channel
        code = cv2.COLOR_GRAY2RGB if frame.ndim == 2 or frame.shape[2] == 1 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(frame, code), np.uint8)

    def time(self) -> float | None:
        milliseconds = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        return milliseconds / 1e3 if np.isfinite(milliseconds) else None

    def failure(self) -> str:
        return ""

    def cancel(self) -> None:
        """Does nothing: releasing a capture that another thread reads is undefined. Its timeouts end the read."""

    def close(self) -> None:
        self._capture.release()


def open_camera(path: Path, size: tuple[int, int] | None, fps: float | None) -> OpenCVDevice:
    """A V4L2 camera by its device file.

    size, fps: requested; the camera chooses its nearest mode. Raises EdgefelError if it cannot be opened.
    """
    capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise EdgefelError(
            f"{path}: cannot be opened as a camera; another program may be using it, or it is the metadata device of "
            f"a camera (try the next lower number); CSI cameras of a Jetson are opened as csi"
        )
    if size is not None or fps is not None:
        # USB 2 has the bandwidth for about 640x480 uncompressed at 30 fps
        capture.set(cv2.CAP_PROP_FOURCC, _MJPG)
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if fps is not None:
        capture.set(cv2.CAP_PROP_FPS, fps)
    # frames queued in the driver are outdated when they are read
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return OpenCVDevice(capture)


def camera_file(name: str) -> Path:
    """The device file of a camera that is given by number or file. Raises EdgefelError if it cannot be used."""
    path = Path(f"/dev/video{name}") if name.isdigit() else Path(name)
    if not path.exists():
        present = ", ".join(str(file) for file in sorted(Path("/dev").glob("video*")))
        found = f"cameras here: {present}" if present else "there is no camera here"
        raise EdgefelError(f"{path}: no such device; {found}; plug one in or choose another with --source")
    if not path.is_char_device():
        raise EdgefelError(f"{path}: not a camera device; give a number, /dev/videoN, csi, a URL or a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise EdgefelError(
            f"{path}: no permission; add yourself to the group video (sudo usermod -aG video $USER) and log in again"
        )
    return path


def open_url(
    url: str, *, open_timeout: float = OPEN_TIMEOUT, read_timeout: float = READ_TIMEOUT
) -> OpenCVDevice:
    """A network stream through FFmpeg. Timeouts are in seconds. Raises EdgefelError if it cannot be opened in time."""
    limits = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1e3 * open_timeout)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1e3 * read_timeout)),
    ]
    device = _open_ffmpeg(url, limits, _LIVE_PIXELS)
    if device is None:
        raise EdgefelError(
            f"{without_password(url)}: cannot be opened as a stream; check address, user and password (special "
            f"characters percent-encoded), and that this machine reaches it"
        )
    return device


def open_video(path: Path) -> OpenCVDevice:
    """A video file. Raises EdgefelError if FFmpeg cannot open it."""
    device = _open_ffmpeg(str(path), [], _FILE_PIXELS)
    if device is None:
        raise EdgefelError(
            f"{path}: OpenCV cannot open this as a video; is it cut short? Try converting it to H.264 in MP4"
        )
    return device


def _decoded(jpeg: Image) -> Image:
    """BGR [H, W, 3]; empty unless it is a complete JPEG."""
    decoded: Image | None = None
    with suppress(cv2.error):
        decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)  # type: ignore[assignment] # or None
    return np.empty(0, np.uint8) if decoded is None else decoded


def _open_ffmpeg(source: str, parameters: list[int], pixels: int) -> OpenCVDevice | None:
    """None if it cannot be opened. One thread decodes frames of up to `pixels`, and FFmpeg's threads larger ones."""
    device = _open_once(source, [*parameters, *_ONE_THREAD])
    if device is not None and device.size[0] * device.size[1] > pixels:
        device.close()
        device = _open_once(source, parameters)
    return device


def _open_once(source: str, parameters: list[int]) -> OpenCVDevice | None:
    capture = cv2.VideoCapture(native_path(source), cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        capture.release()
        return None
    # must be set before the first frame is read
    jpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPG and capture.set(cv2.CAP_PROP_FORMAT, -1)
    return OpenCVDevice(capture, jpeg=bool(jpeg))
