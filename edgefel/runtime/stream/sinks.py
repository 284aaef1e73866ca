"""Outputs of a stream: JSON lines, CSV, an annotated video, a window.

A run may last for weeks and end with a power cut. JSON lines and CSV are written under their own name and consist of
whole lines at any time. A video is written as `clip.part.mp4`, can be played up to its last frame at any time, and is
renamed when it is closed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import cv2

from edgefel.data.preprocessing import Image
from edgefel.data.recording import VideoWriter
from edgefel.data.recording.container import File
from edgefel.errors import EdgefelError
from edgefel.files.write import check_new_file, lock
from edgefel.runtime.stream.frames import FrameResult

_FILE_SUFFIXES = (".jsonl", ".ndjson", ".csv")
_USUAL_FPS = 25.0
# seconds: longer gaps between frames are shortened to this
_LONGEST_STILL = 5.0


class SinkClosed(Exception):
    """The window was closed, or the reader of a pipe is gone: an ordinary end of the run."""


class Sink(Protocol):
    """Receives the result of every frame in order. One thread writes and closes it."""

    needs_image: bool

    def write(self, result: FrameResult, image: Image | None) -> None:
        """image: the annotated frame, uint8 RGB [H, W, 3]; may be None unless `needs_image`.

        Raises SinkClosed if the run should end, EdgefelError if writing fails.
        """

    def close(self) -> None:
        """Completes the output; a second call does nothing."""


def check_file_target(path: Path, *, overwrite: bool = False) -> None:
    """Raises the errors of `open_file_sink` that can be found without opening the file."""
    if str(path) == "-":
        raise EdgefelError("-: results go to standard output with --json; -o takes the name of a file")
    if path.suffix.lower() not in _FILE_SUFFIXES:
        raise EdgefelError(f"{path}: unknown kind of results; name it .jsonl or .csv")
    # a pipe has no content to lose
    check_new_file(path, overwrite=overwrite or (path.exists() and not path.is_file()))


def open_file_sink(path: Path, *, overwrite: bool = False) -> Sink:
    """JsonLines or CsvSink, by suffix. Raises EdgefelError for another suffix, and if the file exists."""
    check_file_target(path, overwrite=overwrite)
    kind = CsvSink if path.suffix.lower() == ".csv" else JsonLines
    return kind(path, overwrite=overwrite)


class JsonLines:
    """One line of JSON for each frame, flushed at once."""

    needs_image = False

    def __init__(self, target: Path | TextIO, *, overwrite: bool = False) -> None:
        """target: a file, or a text stream, which is not closed. Raises EdgefelError if the file exists."""
        self._lines: _LineFile | LineStream = (
            _LineFile(target, overwrite) if isinstance(target, Path) else LineStream(target)
        )

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        self._lines.write(json.dumps(result.to_dict(), allow_nan=False, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._lines.close()


class CsvSink:
    """One row for each face of each frame.

    The columns are `COLUMNS`, then `p_` and `primary_` with the name of each class. The header is written with the
    first face, which has the names; without any face it is only `COLUMNS`.
    """

    needs_image = False
    COLUMNS = (
        *("source", "frame", "time", "latency_ms", "track", "age", "label", "probability", "confidence"),
        *("top_label", "primary_label", "raw_label", "raw_probability", "raw_confidence"),
        *("x", "y", "width", "height", "detection_score", "quality", "raw_quality"),
    )

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Raises EdgefelError if the file exists."""
        self._lines = _LineFile(path, overwrite)
        self._started = False

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        if not result.faces:
            return
        rows = [_row(values) for values in result.to_dicts()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        if not self._started:
            writer.writeheader()
            self._started = True
        writer.writerows(rows)
        self._lines.write(text.getvalue())

    def close(self) -> None:
        if not self._started and not self._lines.closed:
            self._started = True
            self._lines.write(",".join(self.COLUMNS) + "\n")
        self._lines.close()


class VideoSink:
    """The annotated frames as a video with the times of the source.

    A gap of more than five seconds is shortened to five. Frames are resized to the size of the first. kept: where an
    incomplete video of this name from an earlier run is now.
    """

    needs_image = True

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False, reserve: int = 32 << 20) -> None:
        """path: .mp4, .mkv, .mov or .avi. fps: nominal; 0 means 25. reserve: bytes to leave free on the disk.

        Raises EdgefelError for another suffix, if the file exists, and if another run is writing it.
        """
        self._writer = VideoWriter(path, fps if fps > 0 else _USUAL_FPS, overwrite=overwrite)
        self.kept = self._writer.kept
        self._path, self._reserve = path, reserve
        self._start: float | None = None
        self._last = 0.0

    def write(self, result: FrameResult, image: Image | None) -> None:
        if image is None:
            raise ValueError("a video needs images")
        self._check_space()
        now = result.frame.time
        self._start = now if self._start is None else self._start
        self._start += max(0.0, now - self._start - self._last - _LONGEST_STILL)
        self._last = now - self._start
        self._writer.write(image, self._last)

    def close(self) -> None:
        self._writer.close()

    def _check_space(self) -> None:
        """Ends the video before the disk is full, which would affect other programs too."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:  # the folder is gone; the writer reports it
            return
        if free < self._reserve:
            kept = "the video up to here is kept" if self._writer.frames else "nothing was written"
            self.close()
            raise EdgefelError(
                f"{self._path}: less than {self._reserve >> 20} MB are free; {kept}; free some space or save elsewhere"
            )


class WindowSink:
    """Shows the annotated frames. closed: the user pressed q or Esc, or closed the window.

    Must be created, written and closed by one thread, as window systems require.
    """

    needs_image = True

    def __init__(self, title: str) -> None:
        """Raises EdgefelError if OpenCV was built without windows, or there is no screen."""
        gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
        if gui is not None and gui[1] == "NONE":
            raise EdgefelError(
                "this OpenCV was built without windows; save a video with --save, or replace it: pip uninstall "
                'opencv-python-headless, then pip install "opencv-python<5" (on a Jetson, JetPack\'s python3-opencv)'
            )
        # OpenCV's Qt aborts the process if it finds no screen
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise EdgefelError(
                "no screen (DISPLAY is not set); start it on the device's desktop, or use --save"
            )
        self.closed = False
        self._title, self._shown = title, False

    def write(self, result: FrameResult, image: Image | None) -> None:
        if image is None:
            raise ValueError("a window needs images")
        if self.closed:
            raise SinkClosed(self._title)
        try:
            if not self._shown:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
                cv2.resizeWindow(self._title, image.shape[1], image.shape[0])
                self._shown = True
            cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1) & 0xFF
            gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error as error:
            raise EdgefelError(
                f"the window cannot be shown: {error.err}; use --save instead of --show"
            ) from None
        if gone or key in (27, ord("q")):
            self.closed = True
            raise SinkClosed(self._title)

    def close(self) -> None:
        self.closed = True
        if self._shown:
            self._shown = False
            with suppress(cv2.error):  # the user closed it
                cv2.destroyWindow(self._title)


class _LineFile:
    """Writes whole lines to a file, one system call each, so that a killed run leaves no partial line.

    The file is locked against other runs. Named pipes are supported.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        plain = not path.exists() or path.is_file()  # a pipe has no content to lose
        # truncated later, when no other run is known to be writing it
        flags = os.O_WRONLY | os.O_CREAT | (0 if overwrite or not plain else os.O_EXCL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, flags, 0o666)
            if plain and not lock(self._descriptor):
                os.close(self._descriptor)
                raise EdgefelError(f"{path}: another run is writing to it; give this one a file of its own")
            if plain:
                os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
        self._file = File(self._descriptor, path, "line")
        self.closed = False

    def write(self, lines: str) -> None:
        try:
            # file names need not be UTF-8; the escapes are valid in JSON strings
            self._file.append(lines.encode("utf-8", "backslashreplace"))
        except BrokenPipeError:
            raise SinkClosed("the reader of the output is gone") from None
        except EdgefelError:
            self.close()
            raise

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


class LineStream:
    """Writes lines to a stream of the caller, such as standard output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, lines: str) -> None:
        try:
            self._stream.write(lines)
            self._stream.flush()
        except BrokenPipeError:
            raise SinkClosed("the reader of the output is gone") from None
        except OSError as error:
            raise EdgefelError(f"the output cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """The stream stays open."""


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """The columns of a file, of what `FrameResult.to_dicts` says of a face."""
    row = {name: values[name] for name in CsvSink.COLUMNS}
    return row | {name: value for name, value in values.items() if name.startswith(("p_", "primary_"))}
