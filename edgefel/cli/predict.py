"""`edgefel predict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console, working
from edgefel.errors import EdgefelError
from edgefel.text import counted, printable

if TYPE_CHECKING:
    from edgefel.runtime.predict import ImageResult, Summary
    from edgefel.runtime.stream.sources import Source

_NAMED = 20  # unreadable images


@click.command("predict")
@click.argument("bundle", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@params.precision
@params.backend
@params.detector
@params.detector_model
@params.min_face
@click.option("--no-detect", is_flag=True, help="The images are face crops already.")
@click.option("--save", type=click.Path(path_type=Path), help="Folder for annotated images or the video.")
@click.option("--overwrite", is_flag=True, help="Replace files of --save that exist.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th video frame."
)
@params.threads
@params.force
@params.verbose
@params.max_pixels
@params.json_output
def command(
    bundle: Path,
    source: Path,
    precision: str | None,
    backend: str,
    detector: str,
    detector_model: Path | None,
    min_face: float | None,
    no_detect: bool,
    save: Path | None,
    overwrite: bool,
    every: int,
    threads: int | None,
    force: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Label the faces in an image, a folder of images or a video.

    DIR is a bundle made by `edgefel export`. Prints a table, or with --json one line of JSON for each
    image or video frame, with its faces: label, box, confidence, probabilities after and before correction.
    An image without a face has an empty list.

    \b
    Examples:
      edgefel predict bundle photo.jpg --save labelled
      edgefel predict bundle photos/ --json > faces.jsonl
      edgefel predict bundle clip.mp4 --every 5 --precision int8
      edgefel predict bundle crops/ --no-detect
    """
    from edgefel.runtime.faces import make_detector
    from edgefel.runtime.predict import check_save, predict_source
    from edgefel.runtime.session import Session
    from edgefel.runtime.stream.sources import open_source

    if no_detect and detector_model is not None:
        raise EdgefelError("--no-detect and --detector-model exclude each other; leave one out")
    params.refuse_alone("overwrite", "save")
    opened = open_source(source)
    if save is not None:  # before the model is loaded
        check_save(opened, save, overwrite=overwrite)
    find = make_detector("none" if no_detect else detector, detector_model, min_share=min_face)
    with working(f"loading {bundle}"):
        ready = Session.open(bundle, precision, backend, threads, force)
        ready.warm_up()
    with ready as session, _Output(as_json) as output:
        output.announce(session.headline, *(session.choice.reasons if verbose else ()), *session.notes)
        summary = predict_source(
            opened,
            find,
            session,
            save=save,
            overwrite=overwrite,
            every=every,
            each=output.add,
            advance=output.progress(opened, every),
        )
    output.finish(summary, f"{session.file.name} by {session.backend}")


class _Output:
    """Prints results as they come (JSON) or at the end (table); progress of many images goes to stderr."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
        from rich.table import Table

        self._json = as_json
        self._started = False
        self._announced: tuple[str, ...] = ()
        self._root: Path | None = None
        self._table = Table()
        for name in ("image", "face", "label", "prob.", "confidence", "before correction"):
            self._table.add_column(name, overflow="fold" if name == "image" else "ellipsis")
        self._errors = Console(stderr=True)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, console=self._errors, transient=True, disable=not self._errors.is_terminal
        )

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._started:  # stopping a bar that never ran prints an empty line
            self._bar.stop()

    def progress(self, source: Source, every: int) -> Callable[[], None]:
        if source.kind == "image":
            return lambda: None
        if source.kind == "folder":
            self._root = source.path
        task = self._bar.add_task("labelling", total=-(-source.frames // every) or None)
        self._bar.start()
        self._started = True
        return lambda: self._bar.advance(task)

    def announce(self, *lines: str) -> None:
        """Lines for stderr that come with the first result: an error message should stand alone."""
        self._announced = lines

    def add(self, result: ImageResult) -> None:
        from rich.markup import escape

        self._say_announced()
        if self._json:
            click.echo(json.dumps(result.to_dict()))
            return
        file = Path(result.image)
        name = escape(str(file.relative_to(self._root)) if self._root else file.name)
        if result.frame is not None:
            name += f" #{result.frame}"
        for face in result.faces:
            before = escape(f"{face.primary_label} {face.primary[face.primary_label]:.1%}")
            box = f"{face.box.x},{face.box.y} {face.box.side}x{face.box.side}"
            self._table.add_row(
                name, box, escape(face.label), f"{face.probability:.1%}", f"{face.confidence:.2f}", before
            )

    def _say_announced(self) -> None:
        lines, self._announced = self._announced, ()
        for line in lines:
            self.say(line)

    def say(self, text: str) -> None:
        """Prints a line on stderr."""
        self._errors.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def finish(self, summary: Summary, model: str) -> None:
        if not self._json and summary.faces:
            table_console().print(self._table)

        say = self.say
        say(f"{counted(summary.faces, 'face')} in {counted(summary.images, 'image')} ({model})")
        if summary.without_face:
            say(f"no face found in {summary.without_face} of them")
        if summary.unreadable:
            more = (
                f", and {len(summary.unreadable) - _NAMED} more" if len(summary.unreadable) > _NAMED else ""
            )
            say(
                f"skipped {len(summary.unreadable)} unreadable: {', '.join(summary.unreadable[:_NAMED])}{more}"
            )
        if summary.left_out:
            from edgefel.data.images import left_out_text

            say(left_out_text(summary.left_out))
        if summary.lost_frames:
            frames = counted(summary.lost_frames, "frame")
            say(f"{frames} of the video missing before its announced end, or broken: is it complete?")
        for path in summary.kept:
            say(f"a video that an earlier run did not complete is now {path}")
        if summary.saved:
            where = summary.saved[0] if len(summary.saved) == 1 else f"{counted(len(summary.saved), 'image')}"
            say(f"saved {where}")
