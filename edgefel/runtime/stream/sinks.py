"""Where results go: JSON lines, CSV, an annotated video, a window.

A run may last for weeks and end with the power: JSON lines and CSV stand under their own name from the start and are
whole up to their last line at every moment. A video is written beside its name (`clip.part.mp4`), can be played up to
its last frame at every moment, and is renamed when it is closed.
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
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.files.write import lock
from edgefel.runtime.stream.results import FrameResult, TrackedFace

_FILE_SUFFIXES = (".jsonl", ".ndjson", ".csv")
_USUAL_FPS = 25.0
# seconds of a gap that are filled with a still image; what is longer is cut
_LONGEST_STILL = 5.0


class SinkClosed(Exception):
    """Whoever takes the results wants no more: the window was closed, or the reader of a pipe is gone.

    The ordinary end of a run, no error.
    """


class Sink(Protocol):
    """Takes the result of every frame, in order, from one thread, which also closes it."""

    needs_image: bool

    def write(self, result: FrameResult, image: Image | None) -> None:
        """image: the annotated frame, uint8 RGB [H, W, 3]; may be None unless `needs_image`.

        Raises SinkClosed where the run should end, EdgefelError where nothing more can be written.
        """
        ...

    def close(self) -> None:
        """Completes what was written; a second call does nothing."""
        ...


def check_file_target(path: Path, *, overwrite: bool = False) -> None:
    """Raises what `open_file_sink` would, as far as that is known without opening it."""
    if str(path) == "-":
        raise EdgefelError("-: results go to standard output with --json; -o takes the name of a file")
    if path.suffix.lower() not in _FILE_SUFFIXES:
        raise EdgefelError(f"{path}: unknown kind of results; name it .jsonl or .csv")
    # a pipe holds nothing that could be lost
    _check_target(path, overwrite or (path.exists() and not path.is_file()))


def open_file_sink(path: Path, *, overwrite: bool = False) -> Sink:
    """JsonLines or CsvSink, by the suffix. Raises EdgefelError for another one, and where the file exists."""
    check_file_target(path, overwrite=overwrite)
    suffix = path.suffix.lower()
    return CsvSink(path, overwrite=overwrite) if suffix == ".csv" else JsonLines(path, overwrite=overwrite)


def open_video_sink(path: Path, fps: float, *, overwrite: bool = False) -> VideoSink:
    """A VideoSink, refused like a file of results where it exists."""
    native_path(path)
    return VideoSink(path, fps, overwrite=overwrite)


class JsonLines:
    """One line of JSON for each frame, readable as soon as the frame is done."""

    needs_image = False

    def __init__(self, target: Path | TextIO, *, overwrite: bool = False) -> None:
        """target: a file, or an open text stream, which stays open. Raises EdgefelError if the file exists."""
        self._lines: _LineFile | _LineStream = (
            _LineFile(target, overwrite) if isinstance(target, Path) else _LineStream(target)
        )

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        self._lines.write(json.dumps(result.to_dict(), allow_nan=False, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._lines.close()


class CsvSink:
    """One row for each face of each frame; frames without a face have none.

    The columns are those of `COLUMNS`, then `p_` and `primary_` with the name of each class. The header is
    written with the first face, which brings the names; of a run without a face it is `COLUMNS` alone.
    """

    needs_image = False
    COLUMNS = (
        *("source", "frame", "time", "latency_ms", "track", "age", "label", "probability", "confidence"),
        *("top_label", "primary_label", "raw_label", "raw_probability", "raw_confidence"),
        *("x", "y", "width", "height", "detection_score"),
    )

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Raises EdgefelError if the file exists."""
        self._lines = _LineFile(path, overwrite)
        self._started = False

    def write(self, result: FrameResult, image: Image | None = None) -> None:
        if not result.faces:
            return
        rows = [_row(result, face) for face in result.faces]
        if not self._started:
            self._start(tuple(rows[0]))
        self._lines.write("".join(_csv_line(row.values()) for row in rows))

    def close(self) -> None:
        if not self._started and not self._lines.closed:
            self._start(self.COLUMNS)
        self._lines.close()

    def _start(self, columns: tuple[str, ...]) -> None:
        self._started = True
        self._lines.write(_csv_line(columns))


class VideoSink:
    """The annotated frames as a video, each with its own time, so that a gap in the source is one in the video.

    A gap of more than five seconds is shortened to them. Frames of another size are brought to the size of the first.
    kept: an earlier run's video of that name that was never completed, and was put aside.
    """

    needs_image = True

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False, reserve: int = 32 << 20) -> None:
        """path: .mp4, .mkv, .mov or .avi. fps: 0 is 25. reserve: bytes that are left free on the disk.

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
        """A full disk would hurt others too."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:  # the folder is gone, which the writer tells
            return
        if free < self._reserve:
            kept = "the video up to here is kept" if self._writer.frames else "nothing was written"
            self.close()
            raise EdgefelError(
                f"{self._path}: less than {self._reserve >> 20} MB are free; {kept}; free some space or save elsewhere"
            )


class WindowSink:
    """Shows the annotated frames. `closed`: the user pressed q or Esc, or closed the window.

    Made, written and closed by one thread, as the window systems demand.
    """

    needs_image = True

    def __init__(self, title: str) -> None:
        """Raises EdgefelError where OpenCV has no windows, or there is no screen."""
        gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
        if gui is not None and gui[1] == "NONE":
            raise EdgefelError(
                "this OpenCV was built without windows; save a video with --save, or replace it: pip uninstall "
                'opencv-python-headless, then pip install "opencv-python<5" (on a Jetson, JetPack\'s python3-opencv)'
            )
        # OpenCV's Qt ends the whole process where it finds no screen
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
            with suppress(cv2.error):  # the user did
                cv2.destroyWindow(self._title)


class _LineFile:
    """Appends whole lines to a file, one system call each, so that a killed run leaves no half a line.

    The file is kept from other runs. A pipe with a name gets lines as standard output does.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self._path = path
        self._plain = not path.exists() or path.is_file()
        # a pipe holds nothing that could be lost
        _check_target(path, overwrite or not self._plain)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not emptied before it is known that no other run is writing it
            flags = os.O_WRONLY | os.O_CREAT | (0 if overwrite or not self._plain else os.O_EXCL)
            self._file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            if self._plain:
                self._empty()
        except OSError as error:
            raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
        self._length = 0
        self.closed = False

    def _empty(self) -> None:
        if not lock(self._file):
            os.close(self._file)
            raise EdgefelError(f"{self._path}: another run is writing to it; give this one a file of its own")
        os.ftruncate(self._file, 0)

    def write(self, lines: str) -> None:
        # names of files need not be UTF-8; in JSON the escapes are those of strings
        data = memoryview(lines.encode("utf-8", "backslashreplace"))
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except BrokenPipeError:
            raise SinkClosed("the reader of the output is gone") from None
        except OSError as error:
            if done and self._plain:
                os.ftruncate(self._file, self._length)
            self.close()
            raise EdgefelError(
                f"{self._path}: {error.strerror}; what was written before is whole; free some space or write elsewhere"
            ) from None
        self._length += done
        if self._plain and os.fstat(self._file).st_nlink == 0:
            self.close()
            raise EdgefelError(
                f"{self._path}: was removed while it was written; write to a folder that stays"
            )

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._file)


class _LineStream:
    """Somebody else's stream, such as standard output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.closed = False

    def write(self, lines: str) -> None:
        try:
            self._stream.write(lines)
            self._stream.flush()
        except BrokenPipeError:
            raise SinkClosed("the reader of the output is gone") from None
        except OSError as error:
            raise EdgefelError(f"the output cannot be written: {error.strerror}") from None

    def close(self) -> None:
        self.closed = True


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise EdgefelError(f"{path}: is a folder; give a file's name")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise EdgefelError(
            f"{path}: cannot be written, {nearest} is a file, not a folder; choose another place"
        )
    if path.exists() and not overwrite:
        raise EdgefelError(f"{path}: exists; choose another name, remove it, or allow it with --overwrite")


def _row(result: FrameResult, face: TrackedFace) -> dict[str, Any]:
    """`CsvSink.COLUMNS` and the distributions, in that order."""
    values = {**result.to_dict(), **face.to_dict()}
    values |= values.pop("box")
    row = {name: values[name] for name in CsvSink.COLUMNS}
    row |= {f"p_{name}": value for name, value in face.face.probabilities.items()}
    return row | {f"primary_{name}": value for name, value in face.face.primary.items()}


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
