"""`edgefel data prepare`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, say_lost
from edgefel.cli.param_types import POSITIVE, FiniteRange
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.data.dataset import ImageDataset
    from edgefel.data.preparing.plan import PrepareOptions

_SHOWN = 5  # names of images that are printed


@click.command("prepare")
@params.data_argument
@params.output("Folder to write; must not exist or be empty.")
@params.layout
@params.split()
@click.option(
    "--size",
    type=click.IntRange(16, 4096),
    default=256,
    help="Side of a face in pixels; training resizes to 256 for models of 224, to 128 for those of 112.",
)
@click.option(
    "--format", "image_format", type=click.Choice(["jpg", "png"]), default="jpg", help="jpg has quality 95."
)
@params.detector
@params.detector_model
@params.min_face
@click.option("--no-detect", is_flag=True, help="The images, or their boxes, are faces already.")
@click.option(
    "--missing",
    type=click.Choice(["skip", "center"]),
    default="skip",
    help="Images without a detected face: skip them, or use their centred square.",
)
@click.option(
    "--margin",
    type=FiniteRange(0, 1),
    default=0.0,
    help="Added on each side of the data set's own box where no detection matches it, as a share of its side.",
)
@click.option(
    "--splits",
    metavar="TRAIN,VAL,TEST",
    help="Shares for dividing the groups (persons, videos) of a set without splits, such as 0.8,0.1,0.1.",
)
@params.seed
@click.option(
    "--shards",
    "per_shard",
    type=POSITIVE,
    metavar="N",
    help="Write WebDataset shards of N images instead of files.",
)
@params.cluster
@click.option("--restart", is_flag=True, help="Discard the results of an unfinished run.")
@params.json_output
def command(
    data: Path,
    output: Path,
    layout: str | None,
    split: str | None,
    detector: str | None,
    detector_model: Path | None,
    min_face: float | None,
    no_detect: bool,
    splits: str | None,
    workers: int | None,
    cluster: str | None,
    restart: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Detect, align and crop the face in every image of a data set, in the layout that training reads.

    Faces are cropped by the same code as on the device. Writes OUTPUT/SPLIT/CLASS/*.jpg with labels.csv and
    prepare.json, or shards, with the labels, groups, splits and soft labels of DATA. Unreadable images and images
    without a face are left out and named in prepare.json.

    Ctrl-C ends with exit code 130; the same command then continues, also after a crash.

    \b
    Examples:
      edgefel data prepare expw -o expw-faces --splits 0.8,0.1,0.1
      edgefel data prepare AffectNet -o affectnet-faces --detector yunet
      edgefel data prepare photos -o faces --size 128 --min-face 0.2
      edgefel data prepare crops -o shards --no-detect --shards 10000
      edgefel data prepare AffectNet -o affectnet-faces --cluster auto     on the machines of a Ray cluster
      edgefel data prepare s3://bucket/shards -o faces
    """
    from edgefel.data.open import open_dataset
    from edgefel.data.preparing.plan import PrepareOptions
    from edgefel.runtime.faces import choose_detector, runtime_faces

    params.refuse_alone("seed", "splits")
    for option in ("detector", "detector_model", "min_face", "missing"):
        params.refuse_both("no_detect", option)
    name, model = choose_detector("none" if no_detect else detector, detector_model)
    prepare_options = PrepareOptions(
        shares=None if splits is None else _shares(splits),
        tools=_described(name, model, min_face),
        **options,
    )
    opened = open_dataset(data, split, layout)

    tools = partial(runtime_faces, None if no_detect else name, model, min_face, prepare_options.size)
    report = _prepare(opened, output, tools, prepare_options, as_json, cluster, workers, restart)
    if as_json:
        print_json({"output": str(output), **report})
    else:
        _show(output, report)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise EdgefelError(
            f"--splits {text!r}: give the shares of train, val and test, such as 0.8,0.1,0.1"
        ) from None


def _described(detector: str, model: Path | None, min_face: float | None) -> dict[str, Any]:
    """The face detector, for the record; a model file by its hash."""
    from edgefel.files.write import sha256

    # the detector refuses a missing file
    known = sha256(model) if model is not None and model.is_file() else None
    return {"detector": detector, "detector_model": known, "min_face": min_face}


def _prepare(
    dataset: ImageDataset,
    output: Path,
    tools: Any,
    options: PrepareOptions,
    quiet: bool,
    cluster: str | None,
    workers: int | None,
    restart: bool,
) -> dict[str, Any]:
    from edgefel.data.preparing.run import prepare
    from edgefel.files.resumable import partial_folder
    from edgefel.tasks.choose import open_runner

    def begin(done: int, total: int) -> None:
        if done:
            click.echo(f"continuing: {done} of {counted(total, 'image')} are done", err=True)
        bars.start("images", total)
        bars.update(done, total)

    try:
        with open_runner(cluster, workers) as runner, Bars(rate=True, transient=quiet) as bars:
            told: Any = {"begin": begin, "progress": bars.advance}
            report = prepare(dataset, output, tools, options, runner=runner, restart=restart, **told)
        say_lost(runner)
        return report
    except KeyboardInterrupt:
        kept = partial_folder(output)
        if kept.is_dir():
            click.echo(f"finished images are kept in {kept}; the same command continues from there", err=True)
        raise


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
