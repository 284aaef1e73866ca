"""`edgefel data prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgefel.cli import params
from edgefel.errors import EdgefelError
from edgefel.text import counted
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.data.dataset import ImageDataset
    from edgefel.data.preparing.plan import PrepareOptions
    from edgefel.runtime.framing import RuntimeFaces

_SHOWN = 5  # names of images on the screen
# what looking for faces needs, and --no-detect does without
_OF_DETECTION = ("detector", "detector_model", "min_face", "missing")


@click.command("prepare")
@click.argument("dataset", metavar="DATA", type=click.Path(path_type=Path))
@params.output("Folder to write; must not exist or be empty.")
@params.layout
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split.")
@click.option(
    "--size",
    type=click.IntRange(16, 4096),
    default=256,
    show_default=True,
    help="Side of a face in pixels; training resizes to 256 for models of 224, to 128 for those of 112.",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["jpg", "png"]),
    default="jpg",
    show_default=True,
    help="jpg has quality 95.",
)
@params.detector
@params.detector_model
@params.min_face
@click.option("--no-detect", is_flag=True, help="The images, or their boxes, are faces already.")
@click.option(
    "--missing",
    type=click.Choice(["skip", "center"]),
    default="skip",
    show_default=True,
    help="An image in which no face is found: leave it out, or take its centred square.",
)
@click.option(
    "--margin",
    type=params.FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Added on each side of the set's own box where no detection fits it, as a share of its side.",
)
@click.option(
    "--splits",
    metavar="TRAIN,VAL,TEST",
    help="Deal the groups (persons, videos) of a set without splits to them, such as 0.8,0.1,0.1.",
)
@params.seed
@click.option(
    "--shards",
    "per_shard",
    type=click.IntRange(min=1),
    metavar="N",
    help="Write WebDataset shards of N images instead of files.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: one per core]")
@click.option("--restart", is_flag=True, help="Discard what an unfinished run has left.")
@params.json_output
def command(
    dataset: Path,
    output: Path,
    layout: str | None,
    split: str | None,
    detector: str,
    detector_model: Path | None,
    min_face: float | None,
    no_detect: bool,
    splits: str | None,
    workers: int | None,
    restart: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find, level and cut out the face of every image of a data set, in the layout that training wants.

    Faces are cut by the code that cuts them on the device. Writes OUTPUT/SPLIT/CLASS/*.jpg with labels.csv and
    prepare.json, or shards, with the labels, groups, splits and soft labels of DATA. Images that cannot be read,
    and those without a face, are left out and named in prepare.json.

    Ctrl-C ends with exit code 130; the same command then goes on where it was, and so it does after a crash.

    \b
    Examples:
      edgefel data prepare expw -o expw-faces --splits 0.8,0.1,0.1
      edgefel data prepare AffectNet -o affectnet-faces --detector yunet --detector-model yunet.onnx
      edgefel data prepare photos -o faces --size 128 --min-face 0.2
      edgefel data prepare crops -o shards --no-detect --shards 10000
    """
    # images that cannot be decoded are named at the end, not by OpenCV in between
    from edgefel.data.open import open_dataset
    from edgefel.data.preparing.plan import PrepareOptions

    params.refuse_alone("seed", "splits")
    name = "none" if no_detect else detector
    if no_detect:
        _refuse_detection()
    prepare_options = PrepareOptions(
        shares=None if splits is None else _shares(splits),
        tools=_described(name, detector_model, min_face),
        **options,
    )
    opened = open_dataset(dataset, split, layout)

    def tools() -> RuntimeFaces:
        from edgefel.runtime.faces import make_detector
        from edgefel.runtime.framing import RuntimeFaces

        find = None if no_detect else make_detector(name, detector_model, min_share=min_face)
        return RuntimeFaces(find, prepare_options.size)

    report = _prepare(opened, output, tools, prepare_options, workers, restart, as_json)
    if as_json:
        click.echo(
            json.dumps({"output": str(output), **report}, indent=2, allow_nan=False, ensure_ascii=False)
        )
    else:
        _show(output, report)


def _refuse_detection() -> None:
    ctx = click.get_current_context()
    for name in _OF_DETECTION:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise EdgefelError(
                f"--no-detect and --{name.replace('_', '-')} exclude each other; leave one out"
            )


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise EdgefelError(
            f"--splits {text!r}: give the shares of train, val and test, such as 0.8,0.1,0.1"
        ) from None


def _described(detector: str, model: Path | None, min_face: float | None) -> dict[str, Any]:
    """What finds the faces, for the record; a model file by its content."""
    from edgefel.files.write import sha256

    # a file that is missing is the detector's to refuse
    known = sha256(model) if model is not None and model.is_file() else None
    return {"detector": detector, "detector_model": known, "min_face": min_face}


def _prepare(
    dataset: ImageDataset,
    output: Path,
    tools: Any,
    options: PrepareOptions,
    workers: int | None,
    restart: bool,
    quiet: bool,
) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgefel.data.preparing.run import partial_folder, prepare

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=quiet)
    task = bar.add_task("images", total=len(dataset), rate="")

    def begin(done: int, total: int) -> None:
        if done:
            click.echo(f"going on: {done} of {counted(total, 'image')} are done", err=True)
        bar.update(task, total=total, completed=done)
        bar.start()  # once everything has been accepted: an error message should stand alone

    def advance(done: int) -> None:
        bar.advance(task, done)
        speed = bar.tasks[0].speed
        bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

    def stop() -> None:
        if bar.live.is_started:
            bar.stop()

    workers = workers or usable_cores()
    try:
        return prepare(
            dataset,
            output,
            tools,
            options,
            workers=workers,
            restart=restart,
            begin=begin,
            progress=advance,
        )
    except KeyboardInterrupt:
        stop()
        kept = partial_folder(output)
        if kept.is_dir():
            click.echo(f"what is done is kept in {kept}; the same command goes on from there", err=True)
        raise
    finally:
        stop()


def _show(output: Path, report: dict[str, Any]) -> None:
    splits = ", ".join(f"{name or 'no split'} {count}" for name, count in report["per_split"].items())
    click.echo(
        f"{output}: {counted(report['faces'], 'face')} of {counted(report['images'], 'image')} ({splits})"
    )
    if report["votes"] is not None:
        click.echo(f"  labels: votes of {report['votes']['file']}")
    classes = ", ".join(f"{name} {count}" for name, count in report["per_class"].items())
    click.echo(f"  {classes}; {counted(report['groups'], 'group')}")
    found = ", ".join(f"{name} {count}" for name, count in report["found"].items() if count)
    click.echo(f"  faces: {found}")
    unreadable = [f"{one['path']} ({one['reason']})" for one in report["unreadable"]]
    for what, names in (("no face found in", report["no_face"]), ("unreadable:", unreadable)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            click.echo(f"  {what} {len(names)}, left out: {', '.join(names[:_SHOWN])}{more}")
    if report["no_face"] or unreadable:
        click.echo(f"  all of them are named in {output / 'prepare.json'}")
    if set(report["per_split"]) == {""}:
        click.echo("  the set has no splits: give --splits 0.8,0.1,0.1 before training on it")
