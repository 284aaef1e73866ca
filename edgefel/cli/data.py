"""`edgefel data`: make and look at data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.data_inspect import command as inspect_command
from edgefel.cli.data_prepare import command as prepare_command
from edgefel.text import counted
from edgefel.workers import usable_cores


@click.group("data")
def command() -> None:
    """Make and look at data sets.

    \b
    Examples:
      edgefel data synth -o faces --count 4000        render faces with known expressions
      edgefel data sheet faces -o sheet.png           look at any data set
      edgefel data inspect faces                      leakage, copies, unreadable files, balance
      edgefel data prepare photos -o crops            find the faces, level and cut them for training
      edgefel data video -o clip.mp4                  faces that move and change expression at known times
    """


@command.command("synth")
@params.output("Folder to write; must not exist or be empty.")
@click.option("--count", type=int, default=2000, show_default=True, help="Images.")
@click.option("--size", type=int, default=224, show_default=True, help="Side of an image in pixels.")
@click.option(
    "--classes", type=click.Choice(["7", "8"]), default="7", show_default=True, help="8 adds contempt."
)
@click.option("--subjects", type=int, default=100, show_default=True, help="Different people.")
@click.option(
    "--long-tail", type=float, default=1.0, show_default=True, help="Most frequent class over rarest."
)
@click.option("--label-noise", type=float, default=0.0, show_default=True, help="Share of wrong labels.")
@click.option(
    "--group-bias", type=float, default=0.0, show_default=True, help="Share of faces chosen to fit the bias."
)
@click.option(
    "--bias-attribute",
    type=click.Choice(["glasses", "skin", "hair"]),
    default="glasses",
    show_default=True,
    help="What of the subject goes with the class.",
)
@click.option(
    "--blend", type=float, default=0.2, show_default=True, help="Share of faces mixing two expressions."
)
@click.option(
    "--intensity",
    type=float,
    nargs=2,
    default=(0.45, 1.0),
    show_default=True,
    help="Range of expression strength.",
)
@click.option(
    "--dropout", type=float, default=0.1, show_default=True, help="Chance that an action unit stays away."
)
@click.option(
    "--pose", type=float, default=1.0, show_default=True, help="How far heads turn; 0 is not at all."
)
@click.option(
    "--nuisance", type=float, default=1.0, show_default=True, help="Light, blur, noise, occluders; 0 is none."
)
@click.option("--format", "image_format", type=click.Choice(["png", "jpg"]), default="png", show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), default=None, help="Processes.  [default: one per core]"
)
@params.seed
@params.json_output
def synth(
    output: Path, image_format: str, workers: int | None, as_json: bool, classes: str, **settings: Any
) -> None:
    """Render faces with known expressions: images, labels.csv, dataset.json, contact_sheet.png.

    Subjects are dealt out to train, val and test; labels.csv also holds the distribution over the classes
    (soft_*) and the action units (au_*) that were drawn. The same options give the same files.

    \b
    Examples:
      edgefel data synth -o faces --count 4000 --size 112
      edgefel data synth -o hard --classes 8 --long-tail 20 --label-noise 0.1 --blend 0.4
      edgefel data synth -o biased --group-bias 0.8 --bias-attribute glasses
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces

    options = FaceOptions(classes=int(classes), **settings)
    columns = (TextColumn("faces"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=as_json)
    task = bar.add_task("faces", total=options.count, rate="")

    def advance(done: int) -> None:
        bar.start()  # once the folder has been accepted: an error message should stand alone
        bar.advance(task, done)
        speed = bar.tasks[0].speed
        bar.update(task, rate=f"{speed:.0f}/s" if speed else "")

    try:
        summary = write_faces(
            output,
            options,
            image_format=image_format,
            workers=workers or usable_cores(),
            progress=advance,
        )
    finally:
        if bar.live.is_started:
            bar.stop()
    _report(output, summary, as_json)


def _report(output: Path, summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps({"output": str(output), **summary}, indent=2))
        return
    classes = ", ".join(f"{name} {count}" for name, count in summary["per_class"].items())
    splits = ", ".join(f"{name} {count}" for name, count in summary["per_split"].items())
    click.echo(f"{output}: {counted(summary['images'], 'face')} of {counted(summary['subjects'], 'subject')}")
    click.echo(f"  {classes}")
    click.echo(f"  {splits}")
    click.echo(f"  look at {output / 'contact_sheet.png'}")


_MOST_CHANGES = 12  # that are listed on the screen


@command.command("video")
@params.output("Video to write (MP4); what it shows goes beside it, with the suffix .json.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Length.")
@click.option("--faces", type=int, default=3, show_default=True, help="People in it, all the time.")
@click.option("--fps", type=float, default=30.0, show_default=True, help="Frames per second.")
@click.option(
    "--size",
    callback=params.parse_size,
    default="640x480",
    show_default=True,
    metavar="WxH",
    help="Of a frame, pixels.",
)
@click.option(
    "--changes", type=int, default=2, show_default=True, help="How often each person changes expression."
)
@click.option(
    "--expression",
    "labels",
    multiple=True,
    metavar="NAME",
    help="Expression to draw from; may be given several times.  [default: all seven]",
)
@click.option(
    "--transition",
    type=float,
    default=0.2,
    show_default=True,
    help="Seconds from one expression to the next.",
)
@click.option(
    "--pose", type=float, default=1.0, show_default=True, help="How far heads turn; 0 is not at all."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Who, where and when. In the default one the Haar cascade finds every face in every frame.",
)
@click.option("--overwrite", is_flag=True, help="Replace the video and its .json where they exist.")
@params.json_output
def video(output: Path, overwrite: bool, as_json: bool, **settings: Any) -> None:
    """Render a video of faces that move and change expression at known times, and its truth.

    OUTPUT.json lists the changes and, for every frame, each person's number, square, pupils and expression.

    \b
    Examples:
      edgefel data video -o clip.mp4 --seconds 60 --faces 3
      edgefel data video -o crowd.mp4 --seconds 10 --faces 40 --size 1280x960 --changes 1
      edgefel data video -o smile.mp4 --expression neutral --expression happiness --changes 5
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgefel.data.synthetic.video import VideoOptions, write_video

    options = VideoOptions(**settings)
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=as_json)
    task = bar.add_task("frames", total=options.frames)

    def advance(done: int) -> None:
        bar.start()  # once the name has been accepted: an error message should stand alone
        bar.advance(task, done)

    try:
        truth = write_video(output, options, progress=advance, overwrite=overwrite)
    finally:
        if bar.live.is_started:
            bar.stop()
    summary = {
        "output": str(output),
        "truth": str(output.with_suffix(".json")),
        "frames": len(truth["frames"]),
        "changes": truth["changes"],
    }
    if as_json:
        import json

        click.echo(json.dumps(summary, indent=2))
        return
    width, height = options.size
    click.echo(
        f"{output}: {counted(summary['frames'], 'frame')} of {width}x{height}, {counted(options.faces, 'face')}"
    )
    for change in truth["changes"][:_MOST_CHANGES]:
        click.echo(
            f"  {change['time']:7.2f} s  person {change['person']}: {change['from']} -> {change['to']}"
        )
    if more := len(truth["changes"][_MOST_CHANGES:]):
        click.echo(f"  and {more} changes more")
    click.echo(f"  what every frame shows: {summary['truth']}")


@command.command("sheet")
@click.argument("dataset", type=click.Path(path_type=Path))
@params.output("Image to write (PNG or JPEG).")
@click.option(
    "--columns", type=click.IntRange(1, 100), default=10, show_default=True, help="Images per class."
)
@click.option(
    "--side",
    type=click.IntRange(16, 512),
    default=112,
    show_default=True,
    help="Side of an image in pixels.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), default=None, help="Only this split.")
@params.layout
def sheet(
    dataset: Path, output: Path, columns: int, side: int, split: str | None, layout: str | None
) -> None:
    """Draw a contact sheet of a data set: one row per class.

    \b
    Examples:
      edgefel data sheet faces -o sheet.png --split test
      edgefel data sheet AffectNet -o sheet.png --layout affectnet-7
    """
    from edgefel.data.images import write_image
    from edgefel.data.inspection.contact_sheet import dataset_sheet
    from edgefel.data.open import open_dataset
    from edgefel.errors import EdgefelError
    from edgefel.files.write import atomic_file

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise EdgefelError(f"{output}: give a name that ends in .png or .jpg")
    image = dataset_sheet(open_dataset(dataset, split, layout), columns, side)
    with atomic_file(output) as temporary:
        write_image(temporary, image)
    click.echo(str(output))


command.add_command(inspect_command)
command.add_command(prepare_command)
