"""Every option that more than one command takes, defined once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from edgefel.data.image_headers import MOST_PIXELS, PIXELS_VARIABLE
from edgefel.data.votes import VOTES_FILES, layout_with_votes
from edgefel.errors import EdgefelError

Function = TypeVar("Function", bound=Callable[..., Any])

json_output = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable JSON instead of a table."
)
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")


class FiniteRange(click.FloatRange):
    """A range of real numbers: NaN, which lies in every range of click's, and infinity are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def refuse_alone(option: str, other: str) -> None:
    """Raises EdgefelError if `option` was given on the command line and `other`, which it belongs to, was not.

    Both are names of parameters of the current command, such as "metrics_every".
    """
    ctx = click.get_current_context()
    if (
        ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE
        and ctx.get_parameter_source(other) is ParameterSource.DEFAULT
    ):
        flag, needed = (f"--{name.replace('_', '-')}" for name in (option, other))
        raise EdgefelError(f"{flag} belongs to {needed}; give that too, or leave it out")


def parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Callback of an option such as `--size 640x480`: (width, height)."""
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is not a size; give it as 640x480", ctx, param)
    return int(width), int(height)


detector = click.option(
    "--detector",
    type=click.Choice(["haar", "yunet"]),
    default="haar",
    show_default=True,
    help="Haar comes with OpenCV; YuNet is better and needs --detector-model.",
)
detector_model = click.option("--detector-model", type=click.Path(path_type=Path), help="YuNet's ONNX file.")
min_face = click.option(
    "--min-face",
    type=FiniteRange(0, 1, min_open=True),
    help="Smallest face to look for, as a share of the image's shorter side; a larger one is faster.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int8+fp16"]),
    help="File of the bundle to run.  [default: the fastest here that passed its comparison with PyTorch]",
)
backend = click.option(
    "--backend",
    type=click.Choice(
        ["auto", "tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime", "onnxruntime-tensorrt"]
    ),
    default="auto",
    show_default=True,
    help="What runs the file. A named one is taken or is an error; auto takes the first that can.",
)
verbose = click.option(
    "-v", "--verbose", is_flag=True, help="Say why no other backend and no other file was taken."
)
threads = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads of the model.  [default: all cores]"
)
force = click.option(
    "--force",
    is_flag=True,
    help="Run a file although its hash is not the manifest's, or it failed its comparison with PyTorch.",
)


def output(
    help: str, *, required: bool = True, default: Path | None = None
) -> Callable[[Function], Function]:
    """`-o/--output PATH`."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), required=required, default=default, help=help
    )


def _set_max_pixels(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    """Into the environment, which worker processes share, for as long as the command runs."""
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


_VOTES = "edgefel.votes"  # in the context, until the layout takes it in


def _keep_votes(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    ctx.meta[_VOTES] = value


def _add_votes(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return layout_with_votes(value, ctx.meta.get(_VOTES))


def layout(function: Function) -> Function:
    """What every command takes that reads a data set of images: `--layout NAME`, `--votes FILE`, which is a part of
    the layout ("fer-plus:label.csv"), and `--max-pixels`."""
    function = click.option(
        "--votes",
        type=click.Choice(VOTES_FILES),
        expose_value=False,
        is_eager=True,  # before the layout, which takes it in
        callback=_keep_votes,
        help="Of FER+: the file that labels are taken from.  [default: as published, fer2013new.csv]",
    )(max_pixels(function))
    return click.option(
        "--layout",
        metavar="NAME",
        callback=_add_votes,
        help="How the data set is laid out, such as raf-db; docs/data.md lists all.  [default: recognized]",
    )(function)


def refuse_layout_alone(other: str) -> None:
    """Raises EdgefelError where `--layout` or `--votes` was given without the data that it is about."""
    for option in ("layout", "votes"):
        refuse_alone(option, other)


group_cap = click.option(
    "--group-cap",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most calibration images of one subject or video.",
)
limits = click.option(
    "--limits",
    type=click.Path(path_type=Path),
    help="YAML file of the limits that files are judged by, per precision; see docs/parity.md.",
)
arch = click.option(
    "--arch",
    "archs",
    multiple=True,
    default=("sm_87", "sm_110"),
    show_default=True,
    metavar="sm_NN",
    help="Target: sm_87 is Jetson Orin, sm_110 Jetson Thor. May be given several times.",
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Type of the attention and of the token pooling; the head is always FP32.",
)
