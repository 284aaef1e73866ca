"""Console output of `edgefel run`: label changes, progress, the closing table."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from edgefel.cli.console import first_names, say
from edgefel.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console

    from edgefel.data.preprocessing import Image
    from edgefel.runtime.stream.frames import FrameResult, FrameSource
    from edgefel.runtime.stream.pipeline import Stream
    from edgefel.runtime.telemetry.telemetry import Telemetry

# people whose last label is remembered; bounds the memory of a long run
_REMEMBERED = 256
_REFRESH = 0.25
# unreadable images that are named
_NAMED = 5


class LabelChanges:
    """Prints a line on stdout whenever a person's label changes."""

    needs_image = False

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}  # by person; those seen last are at the end

    def write(self, result: FrameResult, image: Image | None) -> None:
        from edgefel.runtime.stream.sinks import LineStream

        lines = LineStream(sys.stdout)  # not kept: a progress line replaces it on a terminal
        for face in result.faces:
            before = self._labels.pop(face.track, None)
            self._labels[face.track] = face.label
            if before == face.label:
                continue
            change = face.label if before is None else f"{before} -> {face.label}"
            where = result.frame.name or f"{result.frame.time:8.2f} s"
            confidence = f"{face.face.probability:.0%}, confidence {face.face.confidence:.2f}"
            where = printable(where, lines=False)
            lines.write(f"{where}  person {face.track}  {change}  ({confidence})\n")
        while len(self._labels) > _REMEMBERED:
            del self._labels[next(iter(self._labels))]

    def close(self) -> None:
        """Nothing to free."""


class RunProgress:
    """A line on stderr, where that is a terminal: frames, rate, latency, faces, drops."""

    def __init__(self, console: Console, source: FrameSource, as_json: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        ending = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) if source.frames else ()
        # on one terminal, JSON lines and the progress line would garble each other
        shown = console.is_terminal and not (as_json and sys.stdout.isatty())
        self._bar = Bar(
            TextColumn("{task.description}"),
            *ending,
            console=console,
            transient=True,
            disable=not shown,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("waiting for the first frame", total=source.frames or None)
        self._next = 0.0

    def __enter__(self) -> RunProgress:
        if not self._bar.disable:  # stopping a bar that never ran prints an empty line
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def advance(self, result: FrameResult, dropped: int) -> None:
        """Counts a frame; the line is redrawn at most every _REFRESH seconds."""
        now = time.monotonic()
        if self._bar.disable or now < self._next:
            return
        self._next = now + _REFRESH
        faces = counted(len(result.faces), "face")
        text = f"{result.fps:.1f} fps, {1e3 * result.latency:.0f} ms, {faces}, {dropped} dropped"
        self._bar.update(self._task, completed=result.frame.index + 1, description=text)


def say_summary(console: Console, telemetry: Telemetry, stream: Stream, source: FrameSource) -> None:
    """The closing table, and a line for each kind of problem with the source."""
    from edgefel.data.images import left_out_text
    from edgefel.runtime.stream.sources import FolderSource
    from edgefel.runtime.telemetry.summary import summary_table

    snapshot = telemetry.snapshot()
    console.print(summary_table(snapshot))
    counts = source.counts
    skipped = source.skipped if isinstance(source, FolderSource) else []
    unread = "image" if skipped else "frame"
    named = f": {first_names(skipped, _NAMED)}" if skipped else ""
    for count, what, rest in (
        (stream.dropped, "frame", "dropped, since labelling was slower than the source"),
        (counts.missing, "announced frame", "missing at the end of the file: is it complete?"),
        (counts.unreadable, unread, f"skipped, since unreadable{named}"),
        (counts.reconnects, "time", "the source was lost and opened again"),
        (counts.resolution_changes, "time", "the size of the frames changed"),
    ):
        if count:
            say(console, f"{counted(count, what)} {rest}")
    if isinstance(source, FolderSource) and source.left_out:
        say(console, left_out_text(source.left_out))
