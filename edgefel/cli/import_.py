"""`edgefel import`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.optional import require

LAYOUTS = ("poster-v2", "arbex", "apvit", "ir50", "mobilefacenet")


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--layout", required=True, type=click.Choice(LAYOUTS), help="Which release the files come from."
)
@params.output("Folder for the checkpoint; must not exist or be empty.")
@click.option(
    "--labels",
    metavar="PRESET|NAMES",
    default="canonical",
    show_default=True,
    help="Order of the outputs, which the files do not tell: canonical (AffectNet's), rafdb, "
    "or names separated by commas.",
)
@params.json_output
def command(files: tuple[Path, ...], layout: str, output: Path, labels: str, as_json: bool) -> None:
    """Turn published checkpoints into edgefel's format.

    FILES are loaded as weights only: pickled code in them is refused, never run. Entries that the network
    never uses are dropped; anything else missing, unknown or wrongly shaped is refused, with the list.
    A backbone alone (ir50, mobilefacenet) becomes a starting point for `edgefel train --init-from`.

    \b
    Examples:
      edgefel import raf-db-model_best.pth --layout poster-v2 --labels rafdb -o poster
      edgefel import vit.best.pth classifier.best.pth anchors.best.pth --layout arbex -o arbex
      edgefel import ir50.pth --layout ir50 -o ir50
      edgefel import mobilefacenet_model_best.pth.tar --layout mobilefacenet -o mobilefacenet
    """
    require("torch", "train", "edgefel import")
    from edgefel.models.published import import_to_checkpoint

    summary = import_to_checkpoint(files, layout, output, labels)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(
        f"{output}: {summary['entries']} entries of layout {layout}, {summary['unused']} unused ones dropped"
    )
    if summary["labels"]:
        click.echo(f"labels: {', '.join(summary['labels'])}")
    else:
        click.echo(f"a backbone; start from it with: edgefel train --init-from {output}")
