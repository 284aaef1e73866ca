"""`edgefel import`."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.console import print_json, working
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.data.labels import PRESETS

LAYOUTS = ("poster-v2", "arbex", "apvit", "ir50", "mobilefacenet")
_EPILOG = (
    "\b\nLabel presets; of eight names, a network of seven classes has those without contempt or other:\n"
    + "\n".join(
        f"  {name}: {meaning}\n    {', '.join(orders[-1])}" for name, (meaning, orders) in PRESETS.items()
    )
)


@click.command("import", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--layout", required=True, type=click.Choice(LAYOUTS), help="Release that the files come from.")
@params.output("Folder for the checkpoint; must not exist or be empty.")
@click.option(
    "--labels",
    metavar="PRESET|NAMES",
    help="Order of the outputs: a preset (below) or comma-separated names. Needed unless the file names its classes, "
    "as files of mmcls, such as APViT's, do.",
)
@click.option(
    "--resize",
    type=POSITIVE,
    help="Side that images are resized to before the centre crop.  [default: the release's]",
)
@params.data("Images that the network was trained on, to record how faces are framed in them.")
@params.detector_model
@params.json_output
def command(
    files: tuple[Path, ...],
    layout: str,
    output: Path,
    labels: str | None,
    resize: int | None,
    data: Path | None,
    detector_model: Path | None,
    as_json: bool,
) -> None:
    """Convert published checkpoints to edgefel's format.

    FILES (.pth, .safetensors) are loaded as weights only: pickled code in them is refused, never run. Wrappers that
    trainers add (state_dict, module., _orig_mod., model.) are removed; where a file has averaged (EMA) and raw weights,
    the averaged ones are used. Half and double precision become float32. Entries that the network never uses are
    dropped; anything else missing, unknown, wrongly shaped or not finite is refused and listed. Preprocessing is that
    of the release's own evaluation. No release says where the eyes are in its images: --data measures it, so that a
    device frames faces alike. A backbone alone (ir50, mobilefacenet) becomes a starting point for
    `edgefel train --init-from`.

    \b
    Examples:
      edgefel import raf-db-model_best.pth --layout poster-v2 --labels rafdb -o poster
      edgefel import vit.best.pth classifier.best.pth anchors.best.pth --layout arbex \\
        --labels affwild2 -o arbex
      edgefel import APViT_RAF.pth --layout apvit -o apvit
      edgefel import ir50.pth --layout ir50 -o ir50
      edgefel import mobilefacenet_model_best.pth.tar --layout mobilefacenet -o mobilefacenet
    """
    require("train", "edgefel import", "torch")
    from edgefel.data.open import open_dataset
    from edgefel.data.preprocessing import Preprocessing
    from edgefel.models.published import import_to_checkpoint
    from edgefel.runtime.faces import crop_detector

    params.refuse_alone("detector_model", "data")
    shown, find = (None, None) if data is None else (open_dataset(data), crop_detector(detector_model))
    with working(f"reading {', '.join(map(str, files))}"):
        summary = import_to_checkpoint(files, layout, output, labels, resize, shown, find)
    if as_json:
        print_json(summary)
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
    if summary["framing"] is not None:
        click.echo(f"framing: {summary['framing']['summary']}")
