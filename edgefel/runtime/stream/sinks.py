"""Where results go: JSON lines, CSV, an annotated video, a window.

A run may last for weeks and end with the power: JSON lines and CSV stand under their own name from the start and are
whole up to their last line at every moment. A video is written beside its name (`clip.part.mp4`) and renamed
when it is closed. An MP4 that was never closed cannot be played; an MKV or AVI can, but for its last second.
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

from edgefel.errors import EdgefelError
from edgefel.inputs import native_path
from edgefel.runtime.preprocessing import Image
from edgefel.runtime.stream.results import FrameResult, TrackedFace

# four-letter codes that FFmpeg inside OpenCV's wheels writes without further libraries
_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_FILE_SUFFIXES = (".jsonl", ".ndjson", ".csv")
_USUAL_FPS = 25.0
# seconds of a gap that are filled with a still picture; what is longer is cut
_LONGEST_STILL = 5.0
# frames between two looks at the free space
_SPACE_CHECK = 15


class SinkClosed(Exception):
    """Whoever takes the results wants no more: the window was closed, or the reader of a pipe is gone.

    The ordinary end of a run, no error.
    """


class Sink(Protocol):
    """Takes the result of every frame, in order, from one thread, which also closes it."""

    needs_picture: bool

    def write(self, result: FrameResult, picture: Image | None) -> None:
        """picture: the annotated frame, uint8 RGB [H, W, 3]; may be None unless `needs_picture`.

        Raises SinkClosed where the run should end, EdgefelError where nothing more can be written.
        """
        ...

    def close(self) -> None:
        """Completes what was written; a second call does nothing."""
        ...


def open_file_sink(path: Path, *, overwrite: bool = False) -> Sink:
    """JsonLines or CsvSink, by the suffix. Raises EdgefelError for another one, and where the file exists."""
    suffix = path.suffix.lower()
    if suffix not in _FILE_SUFFIXES:
        raise EdgefelError(f"{path}: unknown kind of results; name it .jsonl or .csv")
    return CsvSink(path, overwrite=overwrite) if suffix == ".csv" else JsonLines(path, overwrite=overwrite)


def open_video_sink(path: Path, fps: float, *, overwrite: bool = False) -> VideoSink:
    """A VideoSink, refused like a file of results where it exists."""
    native_path(path)
    return VideoSink(path, fps, overwrite=overwrite)


class JsonLines:
    """One line of JSON for each frame, readable as soon as the frame is done."""

    needs_picture = False

    def __init__(self, target: Path | TextIO, *, overwrite: bool = False) -> None:
        """target: a file, or an open text stream, which stays open. Raises EdgefelError if the file exists."""
        self._lines: _LineFile | _LineStream = (
            _LineFile(target, overwrite) if isinstance(target, Path) else _LineStream(target)
        )

    def write(self, result: FrameResult, picture: Image | None = None) -> None:
        self._lines.write(json.dumps(result.to_dict(), allow_nan=False, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._lines.close()


class CsvSink:
    """One row for each face of each frame; frames without a face have none.

    The columns are those of `COLUMNS`, then `p_` and `primary_` with the name of each class. The header is
    written with the first face, which brings the names; of a run without a face it is `COLUMNS` alone.
    """

    needs_picture = False
    COLUMNS = (
        *("source", "frame", "time", "latency_ms", "track", "age", "label", "probability", "confidence"),
        *("top_label", "primary_label", "raw_label", "raw_probability", "raw_confidence"),
        *("x", "y", "width", "height", "detection_score"),
    )

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Raises EdgefelError if the file exists."""
        self._lines = _LineFile(path, overwrite)
        self._started = False

    def write(self, result: FrameResult, picture: Image | None = None) -> None:
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
    """The annotated frames as a video of a constant rate, at the speed of the source.

    A picture is repeated where frames were dropped, and left out where more came than the rate allows; a gap of more
    than five seconds is shortened to them. Frames of another size are brought to the size of the first.
    """

    needs_picture = True

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False, reserve: int = 32 << 20) -> None:
        """path: .mp4, .mkv, .mov or .avi. fps: 0 is 25. reserve: bytes that are left free on the disk.

        Raises EdgefelError for another suffix, and if the file exists.
        """
        self._codec = _CODECS.get(path.suffix.lower())
        if self._codec is None:
            raise EdgefelError(f"{path}: unknown kind of video; name it {', '.join(_CODECS)}")
        _check_target(path, overwrite)
        self._path, self._part = path, path.with_name(f"{path.stem}.part{path.suffix}")
        # what a killed run left behind may be all there is of it
        _check_target(self._part, overwrite)
        self._fps = fps if fps > 0 else _USUAL_FPS
        self._overwrite, self._reserve = overwrite, reserve
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start = 0.0
        self._calls = self._written = 0

    def write(self, result: FrameResult, picture: Image | None) -> None:
        if picture is None:
            raise ValueError("a video needs pictures")
        if self._calls % _SPACE_CHECK == 0:
            self._check_space()
        self._calls += 1
        time = result.frame.time
        writer = self._writer or self._open(picture, time)
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        # how many frames there should be, this one included
        due = round((time - self._start) * self._fps) + 1
        most = max(1, round(_LONGEST_STILL * self._fps))
        if due - self._written > most:
            self._start += (due - self._written - most) / self._fps
            due = self._written + most
        for _ in range(due - self._written):
            writer.write(frame)
        self._written = max(self._written, due)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.release()
        if not self._is_whole():
            raise EdgefelError(
                f"{self._path}: not every frame could be written; free disk space, or save elsewhere. "
                f"What there is lies in {self._part}"
            )
        if not self._overwrite and self._path.exists():
            raise EdgefelError(
                f"{self._path}: appeared meanwhile; the video is {self._part}, rename it yourself"
            )
        self._part.replace(self._path)

    def _is_whole(self) -> bool:
        """Whether the frames are in the file: OpenCV's writer fails in silence."""
        video = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
        try:
            # containers without a count of frames give it by their length, rounded
            return video.isOpened() and video.get(cv2.CAP_PROP_FRAME_COUNT) >= self._written - 1
        finally:
            video.release()

    def _open(self, picture: Image, time: float) -> cv2.VideoWriter:
        assert self._codec is not None
        self._size, self._start = (picture.shape[1], picture.shape[0]), time
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*self._codec)
        writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, codec, self._fps, self._size)
        if not writer.isOpened():
            raise EdgefelError(f"{self._path}: OpenCV cannot write this; check the folder, or try .avi")
        self._writer = writer
        return writer

    def _check_space(self) -> None:
        """OpenCV does not tell when a frame could not be written."""
        folder = next(each for each in self._path.absolute().parents if each.is_dir())
        if shutil.disk_usage(folder).free < self._reserve:
            started = self._writer is not None
            self.close()
            kept = "the video up to here is kept" if started else "nothing was written"
            raise EdgefelError(
                f"{self._path}: less than {self._reserve >> 20} MB are free; {kept}; free some space or save elsewhere"
            )


class WindowSink:
    """Shows the annotated frames. `closed`: the user pressed q or Esc, or closed the window.

    Made, written and closed by one thread, as the window systems demand.
    """

    needs_picture = True

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

    def write(self, result: FrameResult, picture: Image | None) -> None:
        if picture is None:
            raise ValueError("a window needs pictures")
        if self.closed:
            raise SinkClosed(self._title)
        try:
            if not self._shown:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
                cv2.resizeWindow(self._title, picture.shape[1], picture.shape[0])
                self._shown = True
            cv2.imshow(self._title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
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
    """Appends whole lines to a file, one system call each, so that a killed run leaves no half a line."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        _check_target(path, overwrite)
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
            self._file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
        self._length = 0
        self.closed = False

    def write(self, lines: str) -> None:
        # names of files need not be UTF-8; in JSON the escapes are those of strings
        data = memoryview(lines.encode("utf-8", "backslashreplace"))
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            if done:
                os.ftruncate(self._file, self._length)
            self.close()
            raise EdgefelError(
                f"{self._path}: {error.strerror}; what was written before is whole; free some space or write elsewhere"
            ) from None
        self._length += done

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
        raise EdgefelError(f"{path}: {nearest} is a file, not a folder; choose another place")
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
