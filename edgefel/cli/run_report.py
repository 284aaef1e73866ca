"""`edgefel run --report`: what is refused, what the page says of the run, and the end of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from edgefel import __version__
from edgefel.cli.console import say
from edgefel.cli.lazy import require
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from edgefel.runtime.model import Model
    from edgefel.runtime.stream.frames import FrameSource
    from edgefel.runtime.stream.pipeline import Stream
    from edgefel.runtime.stream.report.page import About
    from edgefel.runtime.stream.report.sink import ReportSink


def check_report(options: SimpleNamespace) -> list[tuple[str, Path]]:
    """The files of the report, each with what names it. Raises EdgefelError before anything is opened."""
    from edgefel.runtime.stream.report.sink import check_report_target, csv_beside

    require("report", "edgefel run --report", "jinja2", "matplotlib")
    check_report_target(options.report, overwrite=options.overwrite)
    return [("--report", options.report), ("--report, as its table,", csv_beside(options.report))]


def refuse_unrelated(source: FrameSource | None) -> None:
    """Raises EdgefelError for images that are no sequence, which have no timeline."""
    from edgefel.runtime.stream.sources import FolderSource

    if isinstance(source, FolderSource) and source.unrelated:
        raise EdgefelError(
            f"{source.name}: images without an order in time, and --report needs a sequence; give their --fps, or "
            "leave out --report"
        )


def about_run(options: SimpleNamespace, model: Model, source: FrameSource, stream: Stream) -> About:
    """What the page says of the run. The title of a file is its name alone."""
    from edgefel.runtime.stream.report.page import About

    session, every = model.session, options.detect_every
    least = options.min_confidence, options.network["min_quality"]
    made_of = {
        "source": source.description,
        "network": f"{session.manifest.model.name}, {session.file.name} by {session.backend}",
        "detector": model.detector,
        "whole image searched": "every frame" if every == 1 else f"at least every {counted(every, 'frame')}",
        "smoothing": f"{options.smoothing:g} s",
        "unsure": f"confidence below {least[0]:g} or quality below {least[1]:g}",
        "policy": stream.policy,
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "edgefel": __version__,
    }
    name = source.name if source.live else Path(source.name).name or source.name
    return About(name, source.description, model.labels, least, made_of)


def opened_report(options: SimpleNamespace, stack: ExitStack, errors: Console, about: About) -> ReportSink:
    """The sink, which `stack` closes; then a line on `errors` says what was written."""
    from edgefel.runtime.stream.report.sink import ReportSink

    sink = ReportSink(options.report, about, thumbnails=options.thumbnails, overwrite=options.overwrite)

    @stack.push
    def finish(kind: type[BaseException] | None, *exception: object) -> None:
        sink.close()
        people = counted(sink.record.all.people, "person", "people")
        if sink.record.frames:
            say(errors, f"{sink.path}: report of {people}; {sink.table}: a row for each")
        elif kind is None:
            say(errors, f"{sink.path}: not written, since no frame came")

    return sink
