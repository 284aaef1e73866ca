"""`edgefel predict`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, console_on_stderr, print_table, say
from edgefel.cli.network import load_network, network_options
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.runtime.predict import PredictSummary
    from edgefel.runtime.results import Faces
    from edgefel.runtime.stream.sources import Source

_NAMED = 20  # unreadable images


@click.command("predict")
# click gives all arguments but the last to one that takes any number
@click.argument("bundles", metavar="[BUNDLE]", nargs=-1, type=PATH)
@click.argument("source", type=PATH)
@network_options
@click.option("--no-detect", is_flag=True, help="The images are face crops already.")
@click.option("--save", type=PATH, help="Folder for annotated images or the video.")
@params.overwrite("Replace files of --save that exist.")
@click.option("--every", type=POSITIVE, default=1, help="Label every n-th video frame.")
@params.verbose
@params.max_pixels
@params.json_output
def command(
    bundles: tuple[Path, ...],
    source: Path,
    network: dict[str, Any],
    no_detect: bool,
    save: Path | None,
    overwrite: bool,
    every: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Label the faces in an image, a folder of images or a video.

    BUNDLE is a bundle of `edgefel export`; without one, the network that comes with edgefel is used. Prints a table, or
    with --json one line of JSON per image or video frame, with its faces: label, box, confidence, probabilities after
    and before correction. An image without a face has an empty list.

    \b
    Examples:
      edgefel predict photo.jpg --save labelled
      edgefel predict bundle photos/ --json > faces.jsonl
      edgefel predict bundle clip.mp4 --every 5 --precision int8
      edgefel predict bundle crops/ --no-detect
    """
    from edgefel.runtime.predict import check_save, predict_source
    from edgefel.runtime.stream.sources import open_source

    bundle = bundle_before(bundles, source)
    params.refuse_both("no_detect", "detector_model")
    params.refuse_alone("overwrite", "save")
    opened = open_source(source)
    if save is not None:  # before the model is loaded
        check_save(opened, save, overwrite=overwrite)
    if no_detect:
        network["detector"] = "none"
    loaded, lines = load_network(bundle, network, verbose=verbose, as_json=as_json)
    errors = console_on_stderr()
    announced = list(lines)
    rows: list[tuple[str, ...]] = []

    def add(faces: Faces) -> None:
        # not before the first result: an error message stands alone
        say(errors, *announced)
        announced.clear()
        if as_json:
            click.echo(json.dumps(faces.to_dict()))
        else:
            rows.extend(_rows(faces, opened))

    with loaded as model, Bars(console=errors, transient=True, disable=not errors.is_terminal) as bars:
        advance = bars.advance
        if opened.kind != "image":
            bars.start("labelling", -(-opened.frames // every) or None)
        summary = predict_source(
            opened,
            model,
            save=save,
            overwrite=overwrite,
            every=every,
            each=add,
            advance=advance,
        )
    if summary.faces and not as_json:
        print_table(("~image", "face", "label", "prob.", "confidence", "before correction"), rows)
    say(errors, *_lines(summary, f"{model.session.file.name} by {model.session.backend}"))


def bundle_before(before: tuple[Path, ...], source: Path) -> Path:
    """BUNDLE of `[BUNDLE] SOURCE`: what stands before SOURCE, or the network that comes with edgefel."""
    from edgefel.runtime.manifest import is_bundle
    from edgefel.runtime.shipped import shipped_bundle

    if extra := [str(path) for path in (*before, source)][2:]:
        word = "argument" if len(extra) == 1 else "arguments"
        click.get_current_context().fail(f"Got unexpected extra {word} ({' '.join(extra)})")
    if not before:
        if is_bundle(source):
            raise EdgefelError(
                f"{source}: is a bundle, and SOURCE is missing; give an image, a folder of images or a video after it"
            )
        return shipped_bundle()
    (bundle,) = before
    if bundle.is_file():
        raise EdgefelError(
            f"{bundle}: is a file, and BUNDLE a folder of 'edgefel export'; give one SOURCE, which may be a folder"
        )
    return bundle


def _rows(faces: Faces, source: Source) -> Iterator[tuple[str, ...]]:
    assert faces.source is not None
    file = Path(faces.source)
    name = str(file.relative_to(source.path)) if source.kind == "folder" else file.name
    if faces.frame is not None:
        name += f" #{faces.frame}"
    for face in faces:
        before = f"{face.primary_label} {face.primary[face.primary_label]:.1%}"
        box = f"{face.box.x},{face.box.y} {face.box.side}x{face.box.side}"
        label = face.label if face.sure else f"{face.label}: {face.top_label}?"
        yield name, box, label, f"{face.probability:.1%}", f"{face.confidence:.2f}", before


def _lines(summary: PredictSummary, model: str) -> Iterator[str]:
    """What was found, skipped and saved."""
    from edgefel.data.images import left_out_text

    yield f"{counted(summary.faces, 'face')} in {counted(summary.images, 'image')} ({model})"
    if summary.without_face:
        yield f"no face found in {summary.without_face} of them"
    for reason, count in summary.misframed.items():
        yield f"{counted(count, 'face')} with {reason}: not framed as in training, labels are less certain"
    if unsure := summary.unsure:
        reasons = ", ".join(f"{part} {count}" for part, count in unsure.most_common())
        yield f"{counted(unsure.total(), 'face')} unsure, since not well enough seen ({reasons}); see --min-quality"
    if unreadable := summary.unreadable:
        more = f", and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        named = ", ".join(f"{one.path} ({one.reason})" for one in unreadable[:_NAMED])
        yield f"skipped {len(unreadable)} unreadable: {named}{more}"
    if summary.left_out:
        yield left_out_text(summary.left_out)
    if summary.lost_frames:
        frames = counted(summary.lost_frames, "frame")
        yield f"{frames} of the video missing before its announced end, or broken: is it complete?"
    for path in summary.kept:
        yield f"a video that an earlier run did not complete is now {path}"
    if summary.saved:
        where = summary.saved[0] if len(summary.saved) == 1 else f"{counted(len(summary.saved), 'image')}"
        yield f"saved {where}"
