"""Video files as a source of frames, with the timestamps of the file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.devices import CaptureDevice, describe
from edgefel.runtime.stream.frames import Frame, SourceCounts

_USUAL_FPS = 25.0
# seconds: if timestamps fall by more, the clock was reset; by less, frames are out of order
_NEW_CLOCK = 1.0
_log = logging.getLogger("edgefel.runtime")


class VideoFile:
    """A video from its first frame to its last.

    Times are the file's timestamps from its first frame on, so a variable frame rate is kept. Where timestamps do not
    increase, a frame comes 1 / fps after the previous one. An undecodable frame leaves a gap in the numbering.
    loop: starts again at the end with continuing numbers and times. every: `read` returns each n-th frame.
    """

    live = False

    def __init__(
        self, open_device: Callable[[], CaptureDevice], name: str, *, loop: bool = False, every: int = 1
    ) -> None:
        """Opens the video. open_device: raises EdgefelError if that fails. name: for messages."""
        self._every = every
        self._open, self.name, self._loop = open_device, name, loop
        self._device: CaptureDevice | None = open_device()
        self.counts = SourceCounts()
        self.fps = self._device.fps or _USUAL_FPS
        self._announced = self._device.frames
        self.frames = 0 if loop else self._announced
        self.description = describe(self._device, name, self.fps)
        self._reading = threading.Lock()
        self._closed = False
        self._index = 0
        self._in_pass = self._delivered = 0
        self._shape: tuple[int, ...] | None = None
        self._start: float | None = None
        self._time = -1 / self.fps
        self._offset = self._stamp = 0.0

    def read(self) -> Frame | None:
        with self._reading:
            while not self._closed and self._device is not None:
                if not self._device.grab():
                    self._end_of_pass()
                    continue
                index, self._index = self._index, self._index + 1
                self._in_pass += 1
                # for skipped frames too, so that the clock advances
                self._advance_clock(self._device.time())
                if index % self._every:
                    continue
                image = self._device.retrieve()
                if image is None:
                    self.counts.unreadable += 1
                    continue
                self._delivered += 1
                self.counts.resolution_changes += self._shape not in (None, image.shape)
                self._shape = image.shape
                return Frame(index, self._time, image, time.monotonic())
            return None

    def close(self) -> None:
        self._closed = True
        if (device := self._device) is not None:
            device.cancel()
        with self._reading:
            if self._device is not None:
                self._device.close()
                self._device = None

    def _advance_clock(self, stamp: float | None) -> None:
        following = self._time + 1 / self.fps
        if stamp is None:
            self._time = following
            return
        self._start = stamp if self._start is None else self._start
        if self._offset + stamp - self._start < self._time - _NEW_CLOCK and stamp < self._stamp:
            self._start = stamp + self._offset - following
        self._stamp = stamp
        time_of_file = self._offset + stamp - self._start
        self._time = time_of_file if time_of_file > self._time else following

    def _count_missing(self) -> int:
        """Frames between the last one and the announced end. Many files announce only a duration, from which OpenCV
        computes a number of frames at the nominal rate."""
        absent = self._announced - self._in_pass
        end = self._time - self._offset + 1 / self.fps
        return max(0, min(absent, round(self._announced - end * self.fps)))

    def _end_of_pass(self) -> None:
        assert self._device is not None
        device, self._device = self._device, None
        reason = device.failure()
        device.close()
        if self._closed:
            return
        if not self._delivered:
            because = f" ({reason})" if reason else ""
            raise EdgefelError(
                f"{self.name}: no frame of it can be read{because}; is it cut short, or another format?"
            )
        if reason:  # the frames that were read are valid, and nothing else reports the rest
            _log.warning("%s: ends after %d frames: %s", self.name, self._in_pass, reason)
        self.counts.missing += self._count_missing()
        if self._loop:
            self._in_pass = self._delivered = 0
            self._start, self._offset = None, self._time + 1 / self.fps
            self._shape = None  # the restart is not a change of resolution
            self._device = self._open()
