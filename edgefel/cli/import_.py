"""`edgefel import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, working
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.data.labels import PRESETS
from edgefel.errors import EdgefelError

LAYOUTS = ("poster-v2", "arbex", "apvit", "ir50", "mobilefacenet")
BUNDLE = "bundle"  # in place of a layout
_EPILOG = (
    "\b\nLabel presets; of eight names, a network of seven classes has those without contempt or other:\n"
    + "\n".join(
        f"  {name}: {meaning}\n    {', '.join(orders[-1])}" for name, (meaning, orders) in PRESETS.items()
    )
)


@click.command("import", epilog=_EPILOG)
@click.argument("files", nargs=-1, type=PATH)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    help="Release that the files come from. Without it, FILES is a bundle of edgefel: by default the one that comes "
    "with it.",
)
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
@params.data(
    "Images that the network was trained on, to record how faces are framed in them; of a bundle, to measure the "
    "statistics of BatchNorm."
)
@params.detector_model
@params.json_output
def command(
    files: tuple[Path, ...],
    layout: str | None,
    output: Path,
    labels: str | None,
    resize: int | None,
    data: Path | None,
    detector_model: Path | None,
    as_json: bool,
) -> None:
    """Convert published checkpoints, or a bundle, to a checkpoint of edgefel.

    FILES (.pth, .safetensors) are loaded as weights only: pickled code in them is refused, never run. Wrappers that
    trainers add (state_dict, module., _orig_mod., model.) are removed; where a file has averaged (EMA) and raw weights,
    the averaged ones are used. Half and double precision become float32. Entries that the network never uses are
    dropped; anything else missing, unknown, wrongly shaped or not finite is refused and listed. Preprocessing is that
    of the release's own evaluation. No release says where the eyes are in its images: --data measures it, so that a
    device frames faces alike. A backbone alone (ir50, mobilefacenet) becomes a starting point for
    `edgefel train --init-from`.

    A bundle (a folder of `edgefel export`) needs no --layout: the network is that of its FP32 file, with the labels,
    preprocessing and framing of its manifest. The export merges BatchNorm into other layers; --data gives images like
    those it was trained on, whose statistics it gets back, so that training goes on where it ended.

    \b
    Examples:
      edgefel import --data faces -o nano
      edgefel import bundle --data faces -o again
      edgefel import raf-db-model_best.pth --layout poster-v2 --labels rafdb -o poster
      edgefel import vit.best.pth classifier.best.pth anchors.best.pth --layout arbex \\
        --labels affwild2 -o arbex
      edgefel import APViT_RAF.pth --layout apvit -o apvit
      edgefel import ir50.pth --layout ir50 -o ir50
      edgefel import mobilefacenet_model_best.pth.tar --layout mobilefacenet -o mobilefacenet
    """
    require("train", "edgefel import", "torch")
    if layout is None:
        summary = _restore(files, output, data)
    else:
        summary = _convert(files, layout, output, labels, resize, data, detector_model)
    _report(summary, output, as_json)


def _convert(
    files: tuple[Path, ...],
    layout: str,
    output: Path,
    labels: str | None,
    resize: int | None,
    data: Path | None,
    detector_model: Path | None,
) -> dict[str, Any]:
    """Published files."""
    from edgefel.data.open import open_dataset
    from edgefel.models.published import import_to_checkpoint
    from edgefel.runtime.faces import crop_detector
    from edgefel.runtime.manifest import is_bundle

    if not files:
        raise EdgefelError(f"--layout {layout}: give the files of that release, or leave it out for a bundle")
    if is_bundle(files[0]):
        raise EdgefelError(f"{files[0]}: is a bundle of edgefel; leave out --layout")
    params.refuse_alone("detector_model", "data")
    shown, find = (None, None) if data is None else (open_dataset(data), crop_detector(detector_model))
    with working(f"reading {', '.join(map(str, files))}"):
        return import_to_checkpoint(files, layout, output, labels, resize, shown, find)


def _restore(files: tuple[Path, ...], output: Path, data: Path | None) -> dict[str, Any]:
    """A bundle, by default the shipped one."""
    from edgefel.runtime.manifest import is_bundle
    from edgefel.runtime.shipped import shipped_bundle

    bundle = files[0] if files else shipped_bundle()
    if not bundle.exists():
        raise EdgefelError(
            f"{bundle}: no such file or folder; give a bundle, or files of a release with --layout"
        )
    if len(files) > 1 or not (bundle.is_dir() or is_bundle(bundle)):
        raise EdgefelError(
            f"{bundle}: say which release the files come from with --layout ({', '.join(LAYOUTS)}), or give a bundle"
        )
    for option in ("labels", "resize", "detector_model"):
        if params.given(option):
            raise EdgefelError(
                f"{bundle}: the manifest of a bundle says its labels, preprocessing and framing; leave out "
                f"--{option.replace('_', '-')}"
            )
    require("export", "edgefel import BUNDLE", "onnx", "onnxscript", "onnxsim", "onnxruntime", "sklearn")
    from edgefel.export.restore import restore_checkpoint

    with Bars() as progress:
        restored = restore_checkpoint(bundle, output, data, progress)
    framing = restored.manifest.framing
    return {
        "layout": BUNDLE,
        "bundle": str(bundle),
        "output": str(output),
        "entries": restored.entries,
        "unused": 0,
        "labels": list(restored.manifest.labels),
        "preprocessing": restored.preprocessing.to_dict(),
        "framing": None if framing is None else {"framing": framing.to_dict(), "summary": framing.summary},
        "notes": list(restored.notes),
        "images": restored.images,
        "deviation": restored.deviation,
    }


def _report(summary: dict[str, Any], output: Path, as_json: bool) -> None:
    from edgefel.data.preprocessing import Preprocessing

    if as_json:
        print_json(summary)
        return
    entries, layout = f"{output}: {summary['entries']} entries", summary["layout"]
    if layout == BUNDLE:
        click.echo(f"{entries} of the bundle {summary['bundle']}")
    else:
        click.echo(f"{entries} of layout {layout}, {summary['unused']} unused ones dropped")
    for note in summary["notes"]:
        click.echo(note)
    if summary["preprocessing"] is None:
        click.echo(f"a backbone; start from it with: edgefel train --init-from {output}")
        return
    click.echo(f"labels: {', '.join(summary['labels'])}")
    click.echo(f"images: {Preprocessing.from_dict(summary['preprocessing']).summary}")
    if summary["framing"] is not None:
        click.echo(f"framing: {summary['framing']['summary']}")
