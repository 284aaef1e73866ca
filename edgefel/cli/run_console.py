"""Console output of `edgefel run`: label changes, progress, the closing table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def run_progress(
    console: Console, source: FrameSource, as_json: bool
) -> Iterator[Callable[[FrameResult, int], None]]:
    """A line on stderr, where that is a terminal: frames, rate, latency, faces, drops.

    Yields a function that takes each result and the number of dropped frames; it redraws the line at most every
    _REFRESH seconds.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    # on one terminal, JSON lines and the progress line would garble each other
    if not console.is_terminal or (as_json and sys.stdout.isatty()):
        yield lambda result, dropped: None
        return
    ending = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) if source.frames else ()
    columns = (TextColumn("{task.description}"), *ending)
    due = 0.0

    def advance(result: FrameResult, dropped: int) -> None:
        nonlocal due
        if (now := time.monotonic()) < due:
            return
        due = now + _REFRESH
        faces = counted(len(result.faces), "face")
        text = f"{result.fps:.1f} fps, {1e3 * result.latency:.0f} ms, {faces}, {dropped} dropped"
        bar.update(task, completed=result.frame.index + 1, description=text)

    with Bar(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("waiting for the first frame", total=source.frames or None)
        yield advance


def say_summary(console: Console, telemetry: Telemetry, stream: Stream, source: FrameSource) -> None:
    """The closing table, and a line for each kind of problem with the source."""
    from edgefel.data.images import left_out_text
    from edgefel.runtime.stream.sources import FolderSource
    from edgefel.runtime.telemetry.snapshot import summary_table

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
