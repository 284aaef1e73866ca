"""Cameras and network streams: the newest frame, and reopening after a failure."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.devices import CaptureDevice, describe
from edgefel.runtime.stream.frames import Frame, SourceCounts

# seconds: OpenCV's own limit for a camera that sends nothing is 10, and a program cannot change it
HANG = 15.0
# seconds that `close` waits for the reading thread to free the device; the end of the process waits longer
_GOODBYE = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0


class LiveSource:
    """Reads a device in a separate thread, so that a hanging device cannot block `read` forever.

    Only the newest frame is kept; a replaced frame leaves a gap in the numbering and is counted as overwritten. A
    failed device is reopened after growing pauses. If no frame arrives for `patience` seconds after the failure, or the
    device hangs for HANG seconds more, `read` raises EdgefelError.
    """

    live = True
    frames = 0

    def __init__(self, open_device: Callable[[], CaptureDevice], name: str, patience: float) -> None:
        """Opens the device. open_device: raises EdgefelError if that fails. name: for messages."""
        device = open_device()
        self.counts = SourceCounts(unreadable=device.skipped)
        self.fps = device.fps
        self.description = describe(device, name, device.fps)
        self._open, self.name, self._patience = open_device, name, patience
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._waiting: Frame | None = None
        self._error: EdgefelError | None = None
        self._last_sign = time.monotonic()
        self._device: CaptureDevice | None = device
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        atexit.register(self._leave)
        self._thread.start()

    def read(self) -> Frame | None:
        with self._changed:
            while self._waiting is None and self._error is None and not self._stopping.is_set():
                rest = self._last_sign + self._patience + HANG - time.monotonic()
                if rest <= 0:
                    raise EdgefelError(
                        f"{self.name}: does not answer any more; unplug it and plug it in again, or restart it"
                    )
                self._changed.wait(rest)
            frame, self._waiting = self._waiting, None
            if self._stopping.is_set():
                return None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        self._stopping.set()
        with self._changed:
            device = self._device
            self._changed.notify_all()
        if device is not None:
            device.cancel()
        # the thread itself closes the device, since it may be inside one of its calls
        if threading.current_thread() is not self._thread:
            self._thread.join(_GOODBYE)

    def _leave(self) -> None:
        """Ends the thread before Python does, unless it hangs for longer than any timeout of OpenCV.

        A thread that comes back from OpenCV after that is ended by Python inside OpenCV's C++ frames, which aborts the
        process ("FATAL: exception not rethrown").
        """
        self.close()
        self._thread.join(HANG)

    def _run(self) -> None:
        """The reading thread: runs until `close`, or until the device cannot be reopened."""
        index, size, first = 0, (0, 0), None
        lost: float | None = None
        pause, reason = _FIRST_PAUSE, ""
        try:
            while not self._stopping.is_set():
                if self._device is None:
                    assert lost is not None
                    rest = lost + self._patience - time.monotonic()
                    if rest <= 0:
                        return self._give_up(reason)
                    self._stopping.wait(min(pause, rest))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    reason = self._reopen() or reason
                    continue
                alive = self._device.grab()
                captured = time.monotonic()
                image = self._device.retrieve() if alive else None
                if not alive:
                    lost = captured if lost is None else lost
                    reason = self._device.failure() or reason
                    self._drop_device()
                elif image is None:
                    self.counts.unreadable += 1
                    lost = captured if lost is None else lost
                    if captured - lost > self._patience:
                        return self._give_up("its frames cannot be decoded")
                else:
                    shape = (image.shape[1], image.shape[0])
                    self.counts.resolution_changes += size not in ((0, 0), shape)
                    first = captured if first is None else first
                    self._publish(Frame(index, captured - first, image, captured))
                    index, size, lost, pause, reason = index + 1, shape, None, _FIRST_PAUSE, ""
        except Exception as error:  # without this, `read` would wait for a thread that has died
            self._fail(EdgefelError(f"{self.name}: reading failed: {error}"))
        finally:
            self._drop_device()
            atexit.unregister(self._leave)

    def _publish(self, frame: Frame) -> None:
        with self._changed:
            self.counts.overwritten += self._waiting is not None
            self._waiting = frame
            self._last_sign = frame.captured
            self._changed.notify_all()

    def _reopen(self) -> str:
        """Opens the device again; returns the reason if that fails, else an empty string."""
        try:
            device = self._open()
        except EdgefelError as error:
            return str(error)
        finally:
            with self._changed:
                # opening may take its whole timeout, which does not count as hanging
                self._last_sign = time.monotonic()
        self.counts.reconnects += 1
        self.counts.unreadable += device.skipped
        with self._changed:
            self._device = device
        return ""

    def _drop_device(self) -> None:
        with self._changed:
            device, self._device = self._device, None
        if device is not None:
            device.close()

    def _give_up(self, reason: str) -> None:
        because = f" ({reason})" if reason else ""
        self._fail(
            EdgefelError(
                f"{self.name}: gone, and not back after {self._patience:g} seconds{because}; check its cable, power "
                f"and network, then start again"
            )
        )

    def _fail(self, error: EdgefelError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()
