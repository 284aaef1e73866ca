"""`edgefel doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.console import print_json, print_table, table_console, working

_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "bold red"}


@click.command("doctor")
@params.bundle_or_none
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Measure which file and backend are the fastest, unless it is known; takes seconds.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 after a warning too.")
@params.json_output
@click.pass_context
def command(ctx: click.Context, bundle: Path | None, measure: bool, strict: bool, as_json: bool) -> None:
    """Examine this machine: packages, GPU, JetPack, cameras, power, memory.

    The files of BUNDLE, a bundle of `edgefel export`, are examined too; without one, those of the network that comes
    with edgefel. What runs them the fastest is measured as by `edgefel bench pick`. Every problem comes with its fix.
    The exit code is 0 if nothing failed, 1 if something did, and 2 if BUNDLE is not a bundle.

    \b
    Examples:
      edgefel doctor
      edgefel doctor bundle --strict --json
    """
    from rich.text import Text

    from edgefel.runtime.doctor.check import count
    from edgefel.runtime.doctor.examine import examine

    with working("examining this machine"):
        checks = examine(folder=bundle, measure=_measure if measure else None)
    counts = count(checks)
    failed = counts["fail"] > 0 or (strict and counts["warn"] > 0)
    if as_json:
        print_json({"ok": not failed, "counts": counts, "checks": [check.to_dict() for check in checks]})
    else:
        rows = [
            (one.name, Text(one.status, _COLOURS[one.status]), one.found, one.fix or "") for one in checks
        ]
        print_table(("check", "", "~found", "~fix"), rows)
        summary = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
        table_console().print(summary, highlight=False)
    ctx.exit(1 if failed else 0)


def _measure(folder: Path) -> None:
    # imported here: what it needs may be what is broken
    from edgefel.bench.pick import pick

    pick(folder)
