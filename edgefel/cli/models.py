"""`edgefel models`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import print_json, print_table


@click.command("models")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=params.models)
@params.json_output
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the models: parameters, multiply-accumulates (batch 1, 7 classes) and input size.

    All registered ones, or those named; +resizer and +reliability may be added to a name.

    \b
    Examples:
      edgefel models
      edgefel models apvit apvit+reliability apvit+resizer
      edgefel models --json
    """
    from edgefel.models.profile import known_profile
    from edgefel.models.registry import ADDITIONS, describe, list_models, model_config

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            **asdict(known_profile(name)),
            "input_size": config.input_size,
            "description": describe(name),
        }
        for name, config in [(name, model_config(name)) for name in names or list_models()]
    ]
    if as_json:
        print_json(rows)
        return
    cells = [
        (
            row["name"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.3f}",
            f"{row['input_size']}x{row['input_size']}",
            row["description"],
        )
        for row in rows
    ]
    print_table(("model", "parameters", "GMAC", "input", "what it is"), cells)
    if not names:
        for addition, what in ADDITIONS.items():
            click.echo(f"with +{addition}: {what}")
