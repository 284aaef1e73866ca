"""`edgefel engine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table, warn
from edgefel.cli.param_types import PATH, POSITIVE

if TYPE_CHECKING:
    from edgefel.export.tensorrt.bundle import BundleEngine


@click.command("engine")
@params.bundle_or_none
@params.precisions(
    ("fp32", "fp16", "int8", *params.ENGINE_FORMATS),
    help="Engines to build, such as fp16,int8.  [default: all]",
)
@click.option("--min-batch", type=POSITIVE, default=1, help="Smallest batch.")
@click.option("--opt-batch", type=POSITIVE, help="Batch to optimize for.  [default: --min-batch]")
@params.max_batch("Largest batch.", default=8)
@click.option(
    "--workspace-mb", type=POSITIVE, help="Maximum scratch memory of a layer, in MiB.  [default: no limit]"
)
@click.option(
    "--builder-level",
    type=click.IntRange(0, 5),
    help="0 builds fastest, 5 searches longest.  [default: TensorRT's own]",
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
@click.option("--rebuild", is_flag=True, help="Rebuild engines that exist already.")
@click.option(
    "--kernels",
    type=PATH,
    help="Compiled kernels for fused operators.  [default: the folder `kernels` beside the bundle]",
)
@click.option(
    "--no-kernels", "without_kernels", is_flag=True, help="Build fused operators from their bodies."
)
@params.no_cache
@params.json_output
def command(
    bundle: Path | None,
    precisions: tuple[str, ...],
    min_batch: int,
    opt_batch: int | None,
    targets: tuple[str, ...],
    rebuild: bool,
    kernels: Path | None,
    without_kernels: bool,
    no_cache: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build TensorRT engines from the ONNX files of a bundle.

    BUNDLE is a bundle of `edgefel export`; without one, engines of the network that comes with edgefel are built, in a
    copy in the cache folder, which the other commands then use. Run this on the device: an engine belongs to the GPU
    and the version of TensorRT that built it. Needs TensorRT, but neither PyTorch nor the onnx package. INT8 engines
    are built from the INT8 + FP16 file where the bundle has one (`edgefel export --int8 --engine`).

    \b
    Examples:
      edgefel engine bundle
      edgefel engine bundle --precision fp16 --max-batch 16 --workspace-mb 1024
      edgefel engine bundle --rebuild
      edgefel engine bundle --precision fp16 --kernels kernels-orin
    """
    from edgefel.export.tensorrt.bundle import build_bundle_engines, plan_bundle_engines
    from edgefel.export.tensorrt.engine import EngineCache, EngineOptions
    from edgefel.runtime.shipped import bundle_for_engines, shipped_bundle

    engine_options = EngineOptions(
        min_batch=min_batch,
        opt_batch=min_batch if opt_batch is None else opt_batch,
        compute_capabilities=targets,
        **options,
    )
    chosen: dict[str, Any] = {
        "precisions": precisions,
        "rebuild": rebuild,
        "kernels": kernels,
        "without_kernels": without_kernels,
    }
    cache = None if no_cache else EngineCache.default()
    if bundle is None:
        plan_bundle_engines(shipped_bundle(), engine_options, **chosen)  # raises before anything is copied
        bundle = bundle_for_engines()
    with Bars() as progress:
        engines = build_bundle_engines(bundle, engine_options, cache=cache, progress=progress, **chosen)
    for engine in engines:
        warn(*(f"{engine.file.name}: {warning}" for warning in engine.warnings))
    rows = [_row(engine) for engine in engines]
    if as_json:
        print_json({"bundle": str(bundle), "engines": rows})
    else:
        columns = ("file", "status", "built by", "for", "batch", "layers", ">MB")
        print_table(columns, map(_cells, rows), str(bundle))


def _row(engine: BundleEngine) -> dict[str, Any]:
    return {
        "file": engine.file.name,
        "precision": engine.file.precision,
        "status": engine.status,
        "megabytes": engine.file.bytes / 1e6,
        "builder": dict(engine.file.builder or {}),
        "warnings": list(engine.warnings),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    builder = row["builder"]
    batch = builder.get("batch", {})
    counts = builder.get("layer_report", {}).get("precisions", {})
    layers = [f"{count} {name}" for name, count in counts.items() if name.startswith(("fp", "int8", "bf"))]
    return (
        row["file"],
        row["status"],
        f"{builder.get('package')} {builder.get('version')}",
        builder.get("gpu") or "no GPU here",
        f"{batch.get('min')} to {batch.get('max')}",
        ", ".join(layers),
        f"{row['megabytes']:.1f}",
    )
