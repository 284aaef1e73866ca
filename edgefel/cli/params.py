"""Every option that more than one command takes, defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

json_output = click.option(
    "--json", "as_json", is_flag=True, help="Print machine-readable JSON instead of a table."
)
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")


def output(
    help: str, *, required: bool = True, default: Path | None = None
) -> Callable[[Function], Function]:
    """`-o/--output PATH`."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), required=required, default=default, help=help
    )


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
    help="Type of the attention; the head is always FP32.",
)
