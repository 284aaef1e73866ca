"""The device's own source: labelled once for any number of viewers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.model import Model
from edgefel.runtime.stream.capture import SourcePlan
from edgefel.runtime.stream.frames import FrameResult, FrameSource
from edgefel.runtime.stream.overlay import draw
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.telemetry.snapshot import STAGES
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.answers import live_dict
from edgefel.serve.slot import Slot

_PAUSE = 5.0  # seconds before a lost source is opened again
_QUALITY = 80  # of JPEG


@dataclass(frozen=True)
class LiveFrame:
    """A frame of the source with its faces. Its images are encoded when the first viewer asks, and once for all."""

    result: FrameResult
    stages: Mapping[str, float]
    dropped: int
    power_w: float | None
    backend: str

    @cached_property
    def json(self) -> str:
        """As a text message of `/v1/live`."""
        document = live_dict(self.result, self.stages, self.dropped)
        return json.dumps(document, allow_nan=False, separators=(",", ":"))

    @cached_property
    def jpeg(self) -> bytes:
        """The frame as it is."""
        return _encode(self.result.frame.image)

    @cached_property
    def annotated(self) -> bytes:
        """The frame with boxes and panels."""
        return _encode(draw(self.result, self.power_w, self.dropped, self.backend))


class LiveStream:
    """Labels the source in threads of its own, from `start` to `close`, and opens it again when it is lost or ends.

    plan: of the source. first: the source, if it is open already. say: told once about each loss.
    """

    def __init__(
        self,
        plan: SourcePlan,
        first: FrameSource,
        model: Model,
        options: StreamOptions,
        telemetry: Telemetry,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._plan, self._source = plan, first
        self._session, self._detector, self._options = model.session, model.take_detector(), options
        self._telemetry, self._say = telemetry, say
        self._viewers: dict[Slot[LiveFrame], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stream: Stream | None = None
        self.problem = ""
        self._due, self._medians = 0.0, dict[str, float]()
        self._thread = threading.Thread(target=self._run, name="edgefel-live", daemon=True)

    def start(self) -> None:
        """Starts labelling."""
        self._thread.start()

    def close(self) -> None:
        """Ends labelling and releases the source."""
        self._stopping.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._source.close()

    def describe(self) -> dict[str, Any]:
        """For `GET /v1/model`."""
        source = self._source
        return {"source": source.name, "description": source.description, "problem": self.problem or None}

    def watch(self, slot: Slot[LiveFrame]) -> None:
        """Frames go into the slot, from the loop that runs now, until `leave`."""
        with self._lock:
            self._viewers[slot] = asyncio.get_running_loop()

    def leave(self, slot: Slot[LiveFrame]) -> None:
        """Ends `watch`."""
        with self._lock:
            self._viewers.pop(slot, None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._label()
                self.problem = ""
            except EdgefelError as error:
                if not self.problem:
                    self._say(f"{error}; trying again every {_PAUSE:g} s")
                self.problem = str(error)
                if self._stopping.wait(_PAUSE):
                    return
            if self._stopping.is_set():
                return
            try:
                self._source = self._plan.open()
            except EdgefelError as error:
                self.problem = str(error)
                self._stopping.wait(_PAUSE)

    def _label(self) -> None:
        with closing(self._source):
            stream = Stream(self._source, self._detector, self._session, self._options, self._telemetry)
            with self._lock:
                self._stream = stream
            if self._stopping.is_set():
                return
            for result in stream:
                self.problem = ""
                self._show(result, stream)

    def _show(self, result: FrameResult, stream: Stream) -> None:
        with self._lock:
            viewers = list(self._viewers.items())
        if not viewers:
            return
        frame = LiveFrame(
            result,
            self._stages() | {"total": result.latency},
            stream.dropped,
            self._telemetry.power_w,
            stream.backend,
        )
        for slot, loop in viewers:
            try:
                loop.call_soon_threadsafe(slot.put, frame)
            except RuntimeError:  # the loop has ended
                self.leave(slot)

    def _stages(self) -> dict[str, float]:
        """Medians of the stages, read once a second."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + 1.0
            stages = self._telemetry.snapshot().stages
            self._medians = {name: stages[name].p50 / 1e3 for name in STAGES if name in stages}
        return self._medians


def _encode(image: Image) -> bytes:
    bgr = np.ascontiguousarray(image[..., ::-1])
    done, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        raise RuntimeError("OpenCV cannot encode a JPEG")
    return data.tobytes()
