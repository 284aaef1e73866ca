"""`edgefel predict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_table, working
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.errors import EdgefelError
from edgefel.text import counted, printable

if TYPE_CHECKING:
    from edgefel.runtime.predict import ImageResult, Summary
    from edgefel.runtime.sources import Source

_NAMED = 20  # unreadable images
_COLUMNS = ("~image", "face", "label", "prob.", "confidence", "before correction")


@click.command("predict")
@params.bundle
@click.argument("source", type=PATH)
@params.precision
@params.backend
@params.detector
@params.detector_model
@params.min_face
@click.option("--no-detect", is_flag=True, help="The images are face crops already.")
@click.option("--save", type=PATH, help="Folder for annotated images or the video.")
@params.overwrite("Replace files of --save that exist.")
@click.option("--every", type=POSITIVE, default=1, help="Label every n-th video frame.")
@params.threads
@params.force()
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

    BUNDLE is a bundle of `edgefel export`. Prints a table, or with --json one line of JSON per image or video
    frame, with its faces: label, box, confidence, probabilities after and before correction. An image without a face
    has an empty list.

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
    from edgefel.runtime.sources import open_source

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
    """Prints results as they come (JSON) or at the end (table); progress of several images goes to stderr."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console

        self._json = as_json
        self._announced: tuple[str, ...] = ()
        self._root: Path | None = None
        self._rows: list[tuple[str, ...]] = []
        self._errors = Console(stderr=True)
        self._bars = Bars(transient=True, disable=not self._errors.is_terminal)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.__exit__(None)

    def progress(self, source: Source, every: int) -> Callable[[], None]:
        if source.kind == "image":
            return lambda: None
        if source.kind == "folder":
            self._root = source.path
        self._bars.start("labelling", -(-source.frames // every) or None)
        return self._bars.advance

    def announce(self, *lines: str) -> None:
        """Lines for stderr, printed with the first result: an error message stands alone."""
        self._announced = lines

    def add(self, result: ImageResult) -> None:
        self._say_announced()
        if self._json:
            click.echo(json.dumps(result.to_dict()))
            return
        file = Path(result.image)
        name = str(file.relative_to(self._root)) if self._root else file.name
        if result.frame is not None:
            name += f" #{result.frame}"
        for face in result.faces:
            before = f"{face.primary_label} {face.primary[face.primary_label]:.1%}"
            box = f"{face.box.x},{face.box.y} {face.box.side}x{face.box.side}"
            numbers = f"{face.probability:.1%}", f"{face.confidence:.2f}"
            self._rows.append((name, box, face.label, *numbers, before))

    def _say_announced(self) -> None:
        lines, self._announced = self._announced, ()
        for line in lines:
            self.say(line)

    def say(self, text: str) -> None:
        """Prints a line on stderr."""
        self._errors.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def finish(self, summary: Summary, model: str) -> None:
        if not self._json and summary.faces:
            print_table(_COLUMNS, self._rows)

        say = self.say
        say(f"{counted(summary.faces, 'face')} in {counted(summary.images, 'image')} ({model})")
        if summary.without_face:
            say(f"no face found in {summary.without_face} of them")
        if unreadable := summary.unreadable:
            more = f", and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
            say(f"skipped {len(unreadable)} unreadable: {', '.join(unreadable[:_NAMED])}{more}")
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
