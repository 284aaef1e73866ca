"""Every option that more than one command takes, defined once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from edgefel.cli.param_types import (
    ABOVE_ZERO,
    INTEGERS,
    PATH,
    PATH_OR_ADDRESS,
    POSITIVE,
    SIZE,
    FiniteRange,
    joined,
    name_list,
    suggested,
)
from edgefel.data.image_headers import MOST_PIXELS, PIXELS_VARIABLE
from edgefel.data.votes import VOTES_FILES, layout_with_votes
from edgefel.errors import EdgefelError
from edgefel.workers import usable_cores

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

# written out, so that --help and completion import no backend or OpenCV; a test compares them with what they name
BACKENDS = ("tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime", "onnxruntime-tensorrt")
ENGINE_FORMATS = ("fp8", "w8a16", "w4a16")
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16", *ENGINE_FORMATS)
LAYOUTS = (
    *("raf-db", "affectnet", "affectnet-7", "aff-wild2", "aff-wild2-7", "fer-plus", "fer-plus-7", "expw"),
    *("jaffe", "ferg", "manifest", "webdataset", "folder"),
)


def given(option: str) -> bool:
    """Whether the parameter of the current command, such as "metrics_every", is on the command line."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def refuse_both(option: str, other: str) -> None:
    """Raises EdgefelError if both were given; names of parameters, as for `given`."""
    if given(option) and given(other):
        raise EdgefelError(f"{_flag(option)} and {_flag(other)} exclude each other; leave one out")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def refuse_alone(option: str, other: str) -> None:
    """Raises EdgefelError if `option` was given and `other`, which it belongs to, was not."""
    ctx = click.get_current_context()
    if given(option) and ctx.get_parameter_source(other) is ParameterSource.DEFAULT:
        raise EdgefelError(f"{_flag(option)} belongs to {_flag(other)}; give that too, or leave it out")


def _option(*names: str, **shared: Any) -> Callable[..., Decorator]:
    """An option of several commands, each of which gives its help text and the attributes that differ."""

    def option(help: str = shared.pop("help", ""), **own: Any) -> Decorator:
        return click.option(*names, help=help, **(shared | own))

    return option


# completion of names by the shell
def _model_names() -> list[str]:
    from edgefel.models.registry import list_models

    return list_models()


models = suggested(_model_names)
models_or_files = suggested(_model_names, or_files=True)
layouts = suggested(lambda: LAYOUTS)


# inputs
def refuse_source(bundle: Path) -> None:
    """Of a command with `--source`: raises EdgefelError for a video or camera in the place of BUNDLE."""
    if not bundle.is_dir():
        raise EdgefelError(
            f"{bundle}: no such folder; give the folder that 'edgefel export' wrote; a camera, stream or video to "
            "label goes to --source"
        )


def _or_shipped(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None or ctx.resilient_parsing:  # the shell completes the line
        return value
    from edgefel.runtime.shipped import shipped_bundle

    return shipped_bundle()


bundle = click.argument("bundle", type=PATH)
bundle_or_none = click.argument("bundle", type=PATH, required=False)
# without one, that of the network that comes with edgefel
bundle_or_shipped = click.argument("bundle", type=PATH, required=False, callback=_or_shipped)
checkpoint = click.argument("checkpoint", type=PATH)
checkpoint_or_none = click.argument("checkpoint", type=PATH, required=False)
data_argument = click.argument("data", type=PATH_OR_ADDRESS)

data = _option("--data", metavar="DATA", type=PATH)


def split(*names: str, default: str | None = None, help: str = "Only this split.") -> Decorator:
    """`--split NAME`; train, val and test where no names are given."""
    known = names or ("train", "val", "test")
    return click.option("--split", type=click.Choice(known), default=default, help=help)


# outputs
json_output = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable JSON instead of a table."
)

output = _option("-o", "--output", type=PATH, required=True)

overwrite = _option("--overwrite", is_flag=True)  # replaces an output that exists

force = _option(  # bypasses a gate
    "--force", is_flag=True, help="Use a file that was changed, or that failed its comparison with PyTorch."
)


# running a model
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="File of the bundle to run.  [default: the fastest here that passed its comparison with PyTorch]",
)
backend = click.option(
    "--backend",
    type=click.Choice(["auto", *BACKENDS]),
    default="auto",
    help="What runs the file. auto takes the fastest that works; a named one is used, or is an error.",
)
threads = click.option("--threads", type=POSITIVE, help="CPU threads of the model.  [default: all cores]")
mirror = click.option(
    "--mirror",
    is_flag=True,
    help="Label every face together with its mirror image: more accurate, in twice the time.",
)
verbose = click.option(
    "-v", "--verbose", is_flag=True, help="Say why other backends and files were not used."
)
detector = click.option(
    "--detector",
    type=click.Choice(["haar", "yunet"]),
    help="Haar comes with OpenCV, YuNet with 'edgefel detector get'.  [default: YuNet where its file is]",
)
detector_model = click.option("--detector-model", type=PATH, help="Another file of YuNet's network (ONNX).")
min_face = click.option(
    "--min-face",
    type=FiniteRange(0, 1, min_open=True),
    help="Minimum face size, as a share of the image's shorter side; a larger one is faster.",
)

min_quality = click.option(
    "--min-quality",
    type=FiniteRange(0, 1),
    default=0.5,
    help="A face that is too small, turned, dark or blurred to reach it is 'unsure'; 0 labels every face.",
)

# following people through a stream
source = _option(
    "--source",
    shell_complete=suggested(lambda: ["csi"], or_files=True),
    help="Camera number or device, csi, csi:1, rtsp://..., a video file, an image or a folder of images.",
)
frame_size = _option("--size", type=SIZE, help="Frame size to request from the camera, such as 1280x720.")
frame_rate = _option("--fps", type=ABOVE_ZERO, help="Frame rate to request from the camera.")
patience = click.option(
    "--patience",
    type=FiniteRange(min=0),
    default=10.0,
    help="Seconds to keep reconnecting when a camera or stream is lost.",
)
decoder = click.option(
    "--decoder",
    type=click.Choice(["auto", "opencv", "gstreamer"]),
    default="auto",
    help="auto: GStreamer with hardware decoding on a Jetson, OpenCV elsewhere.",
)
detect_every = click.option(
    "--detect-every",
    type=POSITIVE,
    default=1,
    help="Search the whole image in every n-th frame, or when it changes; near known faces in between.",
)
smoothing = click.option(
    "--smoothing",
    type=FiniteRange(min=0),
    default=0.2,
    help="Seconds over which a person's label is averaged; 0 is none.",
)
min_confidence = click.option(
    "--min-confidence",
    type=FiniteRange(0, 1),
    default=0.0,
    help="A face below it is 'unsure'; 'edgefel evaluate --coverage' helps to choose.",
)


# lists
def precisions(
    known: Sequence[str] | None = PRECISIONS, *, default: str | None = None, help: str
) -> Decorator:
    """`--precision P,P`, which may be repeated: a tuple, empty without the option and a default."""
    return click.option(
        "--precision",
        "precisions",
        type=name_list(known),
        multiple=True,
        default=None if default is None else [default],
        callback=joined,
        help=help,
    )


batch_sizes = _option("--batch-sizes", "batches", type=INTEGERS, default="1", help="Faces per call.")

thread_counts = _option("--threads", type=INTEGERS)


# work
seed = click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
no_cache = click.option("--no-cache", is_flag=True, help="Neither read nor write the caches.")


def workers(what: str) -> Decorator:
    """`--workers N`. what: "Threads" or "Processes"."""
    return click.option(
        "--workers",
        type=POSITIVE,
        callback=lambda ctx, param, value: value or usable_cores(),
        help=f"{what}.  [default: one per core]",
    )


cluster_alone = click.option(
    "--cluster",
    metavar="auto|ADDRESS",
    help="Run on a Ray cluster instead of this process; auto: the one of this machine (docs/cluster.md).",
)


def cluster(function: Function) -> Function:
    """The options of commands that run tasks: `--workers N` and `--cluster`, both None without them."""
    function = cluster_alone(function)
    return click.option(
        "--workers", type=POSITIVE, help="Threads; with --cluster, tasks at once.  [default: one per core]"
    )(function)


def seconds(default: str) -> Decorator:
    """`--seconds`, whose default depends on other options."""
    return click.option("--seconds", type=ABOVE_ZERO, help=f"Time to spend.  [default: {default}]")


max_drop = _option("--max-drop", type=FiniteRange(0, 100))

max_batch = _option("--max-batch", type=POSITIVE, help="Largest batch of an engine.")


group_cap = click.option(
    "--group-cap",
    type=POSITIVE,
    default=32,
    help="Maximum number of calibration images per subject or video.",
)
limits = click.option(
    "--limits",
    type=PATH,
    help="YAML file with the limits of the verdicts, per precision; see docs/parity.md.",
)
arch = click.option(
    "--arch",
    "archs",
    multiple=True,
    default=("sm_87", "sm_110"),
    metavar="sm_NN",
    help="Target: sm_87 is Jetson Orin, sm_110 Jetson Thor. May be given several times.",
)


def _set_max_pixels(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    """Sets the environment variable, which worker processes share, until the command ends."""
    if value is None:
        return
    before = os.environ.get(PIXELS_VARIABLE)
    os.environ[PIXELS_VARIABLE] = str(value)

    def restore() -> None:
        os.environ.pop(PIXELS_VARIABLE)
        if before is not None:
            os.environ[PIXELS_VARIABLE] = before

    ctx.call_on_close(restore)


max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(1, 1 << 30),
    expose_value=False,
    callback=_set_max_pixels,
    help=f"Pixels of the largest image to decode; larger ones are skipped.  [default: {MOST_PIXELS}]",
)


def _add_votes(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return layout_with_votes(value, ctx.params.pop("votes", None))


def layout(function: Function) -> Function:
    """The options of every command that reads a data set of images: `--layout NAME`; `--votes FILE`, which becomes part
    of the layout ("fer-plus:label.csv"); and `--max-pixels`."""
    function = click.option(
        "--votes",
        type=click.Choice(VOTES_FILES),
        is_eager=True,  # before --layout, which takes it in
        help="FER+ only: the file that labels come from.  [default: as published, fer2013new.csv]",
    )(max_pixels(function))
    return click.option(
        "--layout",
        metavar="NAME",
        callback=_add_votes,
        shell_complete=layouts,
        help="Layout of the data set, such as raf-db; docs/data.md lists all.  [default: recognized]",
    )(function)


def refuse_layout_alone() -> None:
    """Raises EdgefelError where `--layout` or `--votes` was given without `--data`."""
    for option in ("layout", "votes"):
        refuse_alone(option, "data")
