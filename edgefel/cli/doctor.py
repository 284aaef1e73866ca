"""`edgefel doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console, working

if TYPE_CHECKING:
    from edgefel.runtime.doctor.check import Check

_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "bold red"}


@click.command("doctor")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("--strict", is_flag=True, help="Exit with 1 after a warning too.")
@params.json_output
def command(folder: Path | None, strict: bool, as_json: bool) -> None:
    """Examine this machine: packages, GPU, JetPack, cameras, power, memory.

    DIR is a bundle of `edgefel export`, whose files are examined too. Every problem comes with its fix. The exit
    code is 0 if nothing failed, 1 if something did, and 2 if DIR is no bundle.

    \b
    Examples:
      edgefel doctor
      edgefel doctor bundle --strict --json
    """
    from edgefel.runtime.doctor.check import count
    from edgefel.runtime.doctor.examine import examine

    with working("examining this machine"):
        checks = examine(folder=folder)
    counts = count(checks)
    failed = counts["fail"] > 0 or (strict and counts["warn"] > 0)
    if as_json:
        document = {"ok": not failed, "counts": counts, "checks": [check.to_dict() for check in checks]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _show(checks, counts)
    click.get_current_context().exit(1 if failed else 0)


def _show(checks: Sequence[Check], counts: dict[str, int]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "")
    for name in ("found", "fix"):
        table.add_column(name, overflow="fold")
    for check in checks:
        colour = _COLOURS[check.status]
        mark = f"[{colour}]{check.status}[/{colour}]"
        table.add_row(escape(check.name), mark, escape(check.found), escape(check.fix or ""))
    console = table_console()
    console.print(table)
    console.print(
        ", ".join(f"{number} {status}" for status, number in counts.items() if number), highlight=False
    )
