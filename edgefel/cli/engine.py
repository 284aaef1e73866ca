"""`edgefel engine`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console

if TYPE_CHECKING:
    from edgefel.export.tensorrt.bundle import BundleEngine


@click.command("engine")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "fp16", "int8"]),
    multiple=True,
    help="Build this one; may be given several times. All that the bundle has without it.",
)
@click.option("--min-batch", type=click.IntRange(min=1), default=1, show_default=True, help="Smallest batch.")
@click.option(
    "--opt-batch", type=click.IntRange(min=1), help="Batch to be fastest at.  [default: --min-batch]"
)
@click.option("--max-batch", type=click.IntRange(min=1), default=8, show_default=True, help="Largest batch.")
@click.option(
    "--workspace-mb",
    type=click.IntRange(min=1),
    help="Scratch memory a layer may take, in MiB; no limit without it.",
)
@click.option(
    "--builder-level",
    type=click.IntRange(0, 5),
    help="0 builds fastest, 5 searches longest; TensorRT's own without it.",
)
@click.option("--version-compatible", is_flag=True, help="Also run in later versions of TensorRT (slower).")
@click.option(
    "--hardware-compatibility",
    type=click.Choice(["ampere_plus", "same_compute_capability"]),
    help="Also run on these other GPUs (slower; full TensorRT, not on Jetson).",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="sm_NN",
    help="GPU to build for, or 'current' (TensorRT for RTX); may be given several times.",
)
@click.option("--rebuild", is_flag=True, help="Build engines that are there already once more.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache of engines.")
@params.json_output
def command(
    folder: Path,
    precisions: tuple[str, ...],
    min_batch: int,
    opt_batch: int | None,
    max_batch: int,
    workspace_mb: int | None,
    builder_level: int | None,
    version_compatible: bool,
    hardware_compatibility: str | None,
    targets: tuple[str, ...],
    rebuild: bool,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Build TensorRT engines from the ONNX files of a bundle.

    DIR is a bundle of `edgefel export`. Run this on the device: an engine belongs to the GPU and the version of
    TensorRT that built it. Needs TensorRT, and neither PyTorch nor the onnx package. INT8 engines are built
    from the INT8 + FP16 file where the bundle has one (`edgefel export --int8 --engine`).

    \b
    Examples:
      edgefel engine bundle
      edgefel engine bundle --precision fp16 --max-batch 16 --workspace-mb 1024
      edgefel engine bundle --rebuild
    """
    from edgefel.cli.export_progress import RichProgress
    from edgefel.export.tensorrt.bundle import build_bundle_engines
    from edgefel.export.tensorrt.engine import EngineCache, EngineOptions

    options = EngineOptions(
        min_batch=min_batch,
        opt_batch=min_batch if opt_batch is None else opt_batch,
        max_batch=max_batch,
        builder_level=builder_level,
        workspace_mb=workspace_mb,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility,
        compute_capabilities=targets,
    )
    cache = None if no_cache else EngineCache.default()
    with RichProgress() as progress:
        engines = build_bundle_engines(
            folder, options, precisions=precisions, rebuild=rebuild, cache=cache, progress=progress
        )
    _show(engines, folder, as_json)


def _show(engines: tuple[BundleEngine, ...], folder: Path, as_json: bool) -> None:
    for engine in engines:
        for warning in engine.warnings:
            click.echo(f"warning: {engine.file.name}: {warning}", err=True)
    rows = [_row(engine) for engine in engines]
    if as_json:
        click.echo(json.dumps({"bundle": str(folder), "engines": rows}, indent=2, allow_nan=False))
        return
    from rich.table import Table

    table = Table("file", "status", "built by", "for", "batch", "layers", title=str(folder))
    table.add_column("MB", justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    table_console().print(table)


def _row(engine: BundleEngine) -> dict[str, Any]:
    builder = dict(engine.file.builder or {})
    return {
        "file": engine.file.name,
        "precision": engine.file.precision,
        "status": engine.status,
        "megabytes": engine.file.bytes / 1e6,
        "builder": builder,
        "warnings": list(engine.warnings),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    builder = row["builder"]
    batch = builder.get("batch", {})
    counts = builder.get("layer_report", {}).get("precisions", {})
    return (
        row["file"],
        row["status"],
        f"{builder.get('package')} {builder.get('version')}",
        builder.get("gpu") or "no GPU here",
        f"{batch.get('min')} to {batch.get('max')}",
        ", ".join(
            f"{count} {name}" for name, count in counts.items() if name.startswith(("fp", "int8", "bf"))
        ),
        f"{row['megabytes']:.1f}",
    )
