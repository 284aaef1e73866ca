"""`edgefel data`: data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json
from edgefel.cli.data_inspect import command as inspect_command
from edgefel.cli.data_prepare import command as prepare_command
from edgefel.cli.param_types import SIZE
from edgefel.text import counted

_MOST_CHANGES = 12  # that are printed

_pose = click.option("--pose", type=float, default=1.0, help="How far heads turn; 0 is not at all.")


@click.group("data")
def command() -> None:
    """Generate, inspect and prepare data sets.

    \b
    Examples:
      edgefel data synth -o faces --count 4000        render faces with known expressions
      edgefel data sheet faces -o sheet.png           a contact sheet of any data set
      edgefel data inspect faces                      leakage, copies, unreadable files, balance
      edgefel data prepare photos -o crops            detect, align and crop the faces for training
      edgefel data video -o clip.mp4                  faces that move and change expression at known times
    """


@command.command("synth")
@params.output("Folder to write; must not exist or be empty.")
@click.option("--count", type=int, default=2000, help="Images.")
@click.option("--size", type=int, default=224, help="Side of an image in pixels.")
@click.option("--classes", type=click.Choice(["7", "8"]), default="7", help="8 adds contempt.")
@click.option("--subjects", type=int, default=100, help="Different people.")
@click.option("--long-tail", type=float, default=1.0, help="Size ratio of the largest to the rarest class.")
@click.option("--label-noise", type=float, default=0.0, help="Share of wrong labels.")
@click.option("--group-bias", type=float, default=0.0, help="Share of faces chosen to fit the bias.")
@click.option(
    "--bias-attribute",
    type=click.Choice(["glasses", "skin", "hair"]),
    default="glasses",
    help="Attribute of the subject that correlates with the class.",
)
@click.option("--blend", type=float, default=0.2, help="Share of faces that mix two expressions.")
@click.option("--intensity", type=float, nargs=2, default=(0.45, 1.0), help="Range of expression strength.")
@click.option("--dropout", type=float, default=0.1, help="Probability that an action unit is missing.")
@_pose
@click.option("--nuisance", type=float, default=1.0, help="Light, blur, noise, occluders; 0 is none.")
@click.option(
    "--format", "image_format", type=click.Choice(["png", "jpg"]), default="png", help="Image format."
)
@params.workers("Processes")
@params.seed
@params.json_output
def synth(
    output: Path, image_format: str, workers: int, as_json: bool, classes: str, **settings: Any
) -> None:
    """Render faces with known expressions: images, labels.csv, dataset.json, contact_sheet.png.

    Subjects are divided among train, val and test; labels.csv also holds the drawn distribution over the classes
    (soft_*) and the action units (au_*). The same options give the same files.

    \b
    Examples:
      edgefel data synth -o faces --count 4000 --size 112
      edgefel data synth -o hard --classes 8 --long-tail 20 --label-noise 0.1 --blend 0.4
      edgefel data synth -o biased --group-bias 0.8 --bias-attribute glasses
    """
    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces

    options = FaceOptions(classes=int(classes), **settings)
    with Bars(rate=True, transient=as_json) as bars:
        summary = write_faces(
            output,
            options,
            image_format=image_format,
            workers=workers,
            progress=bars.counter("faces", options.count),
        )
    if as_json:
        print_json({"output": str(output), **summary})
        return
    classes = ", ".join(f"{name} {count}" for name, count in summary["per_class"].items())
    splits = ", ".join(f"{name} {count}" for name, count in summary["per_split"].items())
    click.echo(f"{output}: {counted(summary['images'], 'face')} of {counted(summary['subjects'], 'subject')}")
    click.echo(f"  {classes}")
    click.echo(f"  {splits}")
    click.echo(f"  look at {output / 'contact_sheet.png'}")


@command.command("video")
@params.output("Video to write (MP4); its ground truth is written beside it, with the suffix .json.")
@click.option("--seconds", type=float, default=60.0, help="Length.")
@click.option("--faces", type=int, default=3, help="Number of people, all of them always visible.")
@click.option("--fps", type=float, default=30.0, help="Frames per second.")
@click.option("--size", type=SIZE, default="640x480", help="Frame size in pixels.")
@click.option("--changes", type=int, default=2, help="Expression changes per person.")
@click.option(
    "--expression",
    "labels",
    multiple=True,
    metavar="NAME",
    help="Expression to draw from; may be given several times.  [default: all seven]",
)
@click.option("--transition", type=float, default=0.2, help="Duration of an expression change in seconds.")
@_pose
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=3,
    help="Random seed. With the default one, the Haar cascade finds every face in every frame.",
)
@params.overwrite("Replace the video and its .json if they exist.")
@params.json_output
def video(output: Path, overwrite: bool, as_json: bool, **settings: Any) -> None:
    """Render a video of faces that move and change expression at known times, and its ground truth.

    OUTPUT.json lists the changes and, for every frame, each person's number, square, pupils and expression.

    \b
    Examples:
      edgefel data video -o clip.mp4 --seconds 60 --faces 3
      edgefel data video -o crowd.mp4 --seconds 10 --faces 40 --size 1280x960 --changes 1
      edgefel data video -o smile.mp4 --expression neutral --expression happiness --changes 5
    """
    from edgefel.data.synthetic.options import VideoOptions
    from edgefel.data.synthetic.video import write_video

    options = VideoOptions(**settings)
    with Bars(transient=as_json) as bars:
        truth = write_video(
            output, options, progress=bars.counter("frames", options.frames), overwrite=overwrite
        )
    summary = {
        "output": str(output),
        "truth": str(output.with_suffix(".json")),
        "frames": len(truth["frames"]),
        "changes": truth["changes"],
    }
    if as_json:
        print_json(summary)
        return
    width, height = options.size
    faces = counted(options.faces, "face")
    click.echo(f"{output}: {counted(summary['frames'], 'frame')} of {width}x{height}, {faces}")
    for change in truth["changes"][:_MOST_CHANGES]:
        click.echo(
            f"  {change['time']:7.2f} s  person {change['person']}: {change['from']} -> {change['to']}"
        )
    if more := len(truth["changes"][_MOST_CHANGES:]):
        click.echo(f"  and {more} more changes")
    click.echo(f"  ground truth of every frame: {summary['truth']}")


@command.command("sheet")
@params.data_argument
@params.output("Image to write (PNG or JPEG).")
@click.option("--columns", type=click.IntRange(1, 100), default=10, help="Images per class.")
@click.option("--side", type=click.IntRange(16, 512), default=112, help="Side of an image in pixels.")
@params.split()
@params.layout
def sheet(data: Path, output: Path, columns: int, side: int, split: str | None, layout: str | None) -> None:
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
    image = dataset_sheet(open_dataset(data, split, layout), columns, side)
    with atomic_file(output) as temporary:
        write_image(temporary, image)
    click.echo(str(output))


command.add_command(inspect_command)
command.add_command(prepare_command)
