"""`edgefel import`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.console import working
from edgefel.cli.optional import require
from edgefel.data.labels import PRESETS

LAYOUTS = ("poster-v2", "arbex", "apvit", "ir50", "mobilefacenet")


_EPILOG = (
    "\b\nLabel presets; of eight names, a network of seven classes has those without contempt or other:\n"
    + "\n".join(
        f"  {name}: {meaning}\n    {', '.join(orders[-1])}" for name, (meaning, orders) in PRESETS.items()
    )
)


@click.command("import", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--layout", required=True, type=click.Choice(LAYOUTS), help="Which release the files come from."
)
@params.output("Folder for the checkpoint; must not exist or be empty.")
@click.option(
    "--labels",
    metavar="PRESET|NAMES",
    help="Order of the outputs: a preset (below) or names separated by commas. Needed where the file does not name "
    "its classes, which only files of mmcls such as APViT's do.",
)
@click.option(
    "--resize",
    type=click.IntRange(min=1),
    help="Side that images are resized to before the centre crop; the release's without it.",
)
@params.json_output
def command(
    files: tuple[Path, ...], layout: str, output: Path, labels: str | None, resize: int | None, as_json: bool
) -> None:
    """Turn published checkpoints into edgefel's format.

    FILES (.pth, .safetensors) are loaded as weights only: pickled code in them is refused, never run. What trainers
    wrap weights in (state_dict, module., _orig_mod., model.) is taken off; of averaged (EMA) and raw weights in one
    file the averaged ones are taken. Half and double precision become float32. Entries that the network never
    uses are dropped; anything else missing, unknown, wrongly shaped or not finite is refused, with the list.
    Images are prepared as the release tests its weights. A backbone alone (ir50, mobilefacenet) becomes a
    starting point for `edgefel train --init-from`.

    \b
    Examples:
      edgefel import raf-db-model_best.pth --layout poster-v2 --labels rafdb -o poster
      edgefel import vit.best.pth classifier.best.pth anchors.best.pth --layout arbex \\
        --labels affwild2 -o arbex
      edgefel import APViT_RAF.pth --layout apvit -o apvit
      edgefel import ir50.pth --layout ir50 -o ir50
      edgefel import mobilefacenet_model_best.pth.tar --layout mobilefacenet -o mobilefacenet
    """
    require("torch", "train", "edgefel import")
    from edgefel.data.preprocessing import Preprocessing
    from edgefel.models.published import import_to_checkpoint

    with working(f"reading {', '.join(map(str, files))}"):
        summary = import_to_checkpoint(files, layout, output, labels, resize)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(
        f"{output}: {summary['entries']} entries of layout {layout}, {summary['unused']} unused ones dropped"
    )
    for note in summary["notes"]:
        click.echo(note)
    if summary["preprocessing"] is None:
        click.echo(f"a backbone; start from it with: edgefel train --init-from {output}")
        return
    click.echo(f"labels: {', '.join(summary['labels'])}")
    click.echo(f"images: {Preprocessing.from_dict(summary['preprocessing']).summary}")
