"""`edgefel models`."""

from __future__ import annotations

import json
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console


@click.command("models")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@params.json_output
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the models: parameters, multiply-accumulates (batch 1, 7 classes) and input size.

    All registered ones, or those named: each also with +resizer or +reliability behind it.

    \b
    Examples:
      edgefel models
      edgefel models apvit apvit+reliability apvit+resizer
      edgefel models --json
    """
    from edgefel.models.profile import known_profile
    from edgefel.models.registry import ADDITIONS, describe, list_models, model_config

    configs = {name: model_config(name) for name in names or list_models()}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "parameters": (counted := known_profile(name)).parameters,
            "macs": counted.macs,
            "input_size": config.input_size,
            "description": describe(name),
        }
        for name, config in configs.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    table = Table("model", "parameters", "GMAC", "input", "what it is")
    for row in rows:
        size = row["input_size"]
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.3f}",
            f"{size}x{size}",
            row["description"],
        )
    table_console().print(table)
    if not names:
        for addition, what in ADDITIONS.items():
            click.echo(f"with +{addition}: {what}")
