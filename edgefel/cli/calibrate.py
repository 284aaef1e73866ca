"""`edgefel calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    from edgefel.calib.calibration_set import CalibrationSet


@click.command("calibrate")
@click.argument("data", type=click.Path(path_type=Path))
@params.output("File to write (JSON); must not exist.")
@click.option(
    "--per-class", type=click.IntRange(min=1), default=64, show_default=True, help="Pictures of every class."
)
@params.group_cap
@params.seed
@params.json_output
def command(data: Path, output: Path, per_class: int, group_cap: int, seed: int, as_json: bool) -> None:
    """Choose the pictures that INT8 calibration sees: the same number of every class.

    DATA is a folder with labels.csv, or with one folder per class. The pictures of its splits val and test stay out.
    The file lists every picture with its hash; the same data and seed choose the same pictures.

    \b
    Examples:
      edgefel calibrate faces -o calibration.json
      edgefel calibrate faces -o calibration.json --per-class 128 --group-cap 8 --json
    """
    require("onnx", "export", "edgefel calibrate")
    from rich.console import Console
    from rich.progress import Progress

    from edgefel.calib.calibration_set import choose_calibration_set, write_calibration_set
    from edgefel.data.folder import open_dataset

    if output.exists():
        raise EdgefelError(f"{output}: exists; choose another file or remove it first")
    dataset = open_dataset(data)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("hashing pictures")
        chosen = choose_calibration_set(
            dataset, per_class, group_cap, seed,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    write_calibration_set(output, chosen)
    for label in chosen.short:
        count = chosen.counts[label]
        click.echo(f"warning: {label} has {count} pictures to give, fewer than {per_class}", err=True)
    if as_json:
        click.echo(json.dumps(_summary(chosen, output), indent=2))
    else:
        _show(chosen, output)


def _summary(chosen: CalibrationSet, output: Path) -> dict[str, Any]:
    return {
        "file": str(output),
        "pictures": len(chosen.images),
        "counts": chosen.counts,
        "groups": len(chosen.groups),
        "short": list(chosen.short),
        "key": chosen.key(),
    }


def _show(chosen: CalibrationSet, output: Path) -> None:
    from rich.table import Table

    table = Table(
        "class", title=f"{output}: {len(chosen.images)} pictures of {len(chosen.groups)} subjects or videos"
    )
    table.add_column("pictures", justify="right")
    for label, count in chosen.counts.items():
        table.add_row(label, str(count))
    table_console().print(table)
