"""Engines for a bundle that is there already, built on the device that runs them or elsewhere.

Imports neither torch nor onnx: a device needs the base install and its TensorRT.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.engine import (
    EngineCache,
    EngineOptions,
    build_engine,
    check_targets,
    load_tensorrt,
)
from edgefel.export.tensorrt.formats import check_formats
from edgefel.export.tensorrt.plugin import choose_kernels, find_kernels
from edgefel.files.unfinished import claimed_folder
from edgefel.files.write import sha256, sole_user
from edgefel.progress import SILENT, Progress
from edgefel.runtime.engines import engine_mismatch, find_gpu
from edgefel.runtime.manifest import (
    ENGINE_FORMATS,
    BundleFile,
    Manifest,
    describe_file,
    read_manifest,
    write_manifest,
)
from edgefel.runtime.onnx_functions import fused_nodes, has_functions

ENGINE_PRECISIONS = ("fp32", "fp16", "int8", *ENGINE_FORMATS)


@dataclass(frozen=True)
class BundleEngine:
    """An engine of the bundle and how it came there: "built", "from cache", or "kept" from before."""

    file: BundleFile
    status: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should be told of this build."""
        return () if self.status == "kept" else tuple((self.file.builder or {}).get("warnings", ()))


@dataclass(frozen=True)
class EnginePlan:
    """What `build_bundle_engines` will do. sources: ONNX files; existing: engines of these that are there, by the
    source's name; kernels: the folder of compiled kernels, None without one."""

    manifest: Manifest
    sources: tuple[BundleFile, ...]
    existing: Mapping[str, BundleFile | None]
    kernels: Path | None


def plan_bundle_engines(
    folder: str | os.PathLike[str],
    options: EngineOptions,
    *,
    precisions: Sequence[str] = (),
    rebuild: bool = False,
    kernels: Path | None = None,
    without_kernels: bool = False,
) -> EnginePlan:
    """Refuses what `build_bundle_engines` cannot do, as far as that can be told before a build; writes nothing."""
    trt = load_tensorrt(options)  # a missing TensorRT is the first thing to say
    check_targets(trt, options)
    manifest = read_manifest(folder)
    sources = _sources(manifest, precisions)
    check_formats([source.precision for source in sources], options, str(manifest.folder))
    compiled = _kernel_folder(manifest, sources, kernels, without_kernels)
    existing = {source.name: _existing(manifest, source) for source in sources}
    for source in sources:
        nodes = fused_nodes((manifest.folder / source.name).read_bytes())
        digest = choose_kernels(
            trt, nodes, compiled, find_gpu()
        ).digest  # raises for kernels that are damaged
        if rebuild or (file := existing[source.name]) is None:
            continue
        reason = _misfit(manifest, file, source, options)
        if reason is None and digest not in (None, (file.builder or {}).get("kernels_sha256")):
            reason = f"{file.name}: was built without the kernels of {compiled}"
        if reason is not None:
            raise EdgefelError(f"{manifest.folder}: {reason}; pass --rebuild to replace it")
    return EnginePlan(manifest, tuple(sources), existing, compiled)


def build_bundle_engines(
    folder: str | os.PathLike[str],
    options: EngineOptions | None = None,
    *,
    precisions: Sequence[str] = (),
    rebuild: bool = False,
    cache: EngineCache | None = None,
    progress: Progress = SILENT,
    kernels: Path | None = None,
    without_kernels: bool = False,
) -> tuple[BundleEngine, ...]:
    """Builds engines of a bundle's ONNX files and records them in its manifest.

    precisions: some of ENGINE_PRECISIONS; all that the bundle has without it. INT8 is built from INT8 over
    FP16 where the bundle has that. An engine that is there and fits is kept; one that does not fit is replaced
    with `rebuild`, and an error without. With `rebuild` every engine is built, none taken from `cache`.

    kernels: a folder of compiled kernels for fused operators (`export --attention plugin`); by default the folder
    `kernels` beside the bundle, as an unpacked archive has it, unless `without_kernels`.

    Each engine is recorded when it is whole, so an error in a later one leaves the earlier ones.
    Raises EdgefelError for a broken bundle, a precision that it does not have, an engine that does not fit, and
    what `build_engine` raises, and while another process builds engines of the bundle.
    """
    options = options or EngineOptions()
    plan = plan_bundle_engines(
        folder,
        options,
        precisions=precisions,
        rebuild=rebuild,
        kernels=kernels,
        without_kernels=without_kernels,
    )
    if not rebuild and all(plan.existing.values()):
        return tuple(BundleEngine(file, "kept") for file in plan.existing.values() if file is not None)
    busy = f"{folder}: another process is building engines there; wait for it, or copy the bundle"
    with sole_user(plan.manifest.folder, busy):
        manifest = read_manifest(folder)
        results = []
        for source in plan.sources:
            kept = None if rebuild else _existing(manifest, source)
            if kept is not None:
                results.append(BundleEngine(kept, "kept"))
                continue
            progress.start(f"build {source.precision} engine")
            results.append(_build(manifest, source, options, cache, not rebuild, progress, plan.kernels))
    return tuple(results)


def _sources(manifest: Manifest, precisions: Sequence[str]) -> list[BundleFile]:
    onnx = {file.precision: file for file in manifest.files if file.kind == "onnx"}
    by_precision = {name: onnx[name] for name in ENGINE_PRECISIONS if name in onnx}
    if "int8+fp16" in onnx:
        by_precision["int8"] = onnx["int8+fp16"]
    wanted = list(dict.fromkeys(precisions)) or list(by_precision)
    if missing := [name for name in wanted if name not in by_precision]:
        raise EdgefelError(
            f"{manifest.folder}: no ONNX file of precision {', '.join(missing)} to build an engine of; it has "
            f"{', '.join(by_precision) or 'none'}. Choose one of these or export again"
        )
    if not wanted:
        raise EdgefelError(f"{manifest.folder}: no ONNX files to build engines of; export again")
    return [by_precision[name] for name in wanted]


def _existing(manifest: Manifest, source: BundleFile) -> BundleFile | None:
    """The engine of this file if the manifest lists it and the file is there."""
    name = _engine_name(source)
    for file in manifest.files:
        if file.name == name and file.kind == "engine" and (manifest.folder / name).is_file():
            return file
    return None


def _engine_name(source: BundleFile) -> str:
    return Path(source.name).with_suffix(".engine").name


def _misfit(manifest: Manifest, file: BundleFile, source: BundleFile, options: EngineOptions) -> str | None:
    """Why this engine is not what would be built now."""
    built = file.builder or {}
    if sha256(manifest.folder / file.name) != file.sha256:
        return f"{file.name}: SHA-256 differs from the manifest's, the file is damaged or was changed"
    if (reason := engine_mismatch(file)) is not None:
        return reason.partition("; ")[0]
    if built.get("source_sha256", source.sha256) != source.sha256:
        return f"{file.name}: was built of another {source.name}"
    asked = options.to_dict()
    if (of_old := built.get("options")) is not None and of_old != asked:
        differing = [name for name, value in asked.items() if of_old.get(name) != value]
        pairs = ", ".join(f"{name} {of_old.get(name)} (asked for {asked[name]})" for name in differing)
        return f"{file.name}: was built with {pairs}"
    batch = {"min": options.min_batch, "opt": options.opt_batch, "max": options.max_batch}
    if built.get("batch", batch) != batch:
        return f"{file.name}: was built for batches {built['batch']}, asked for {batch}"
    return None


def _kernel_folder(
    manifest: Manifest, sources: Sequence[BundleFile], given: Path | None, without: bool
) -> Path | None:
    """Where the compiled kernels are; raises EdgefelError for ones that no file of the bundle has a place for, and for
    a folder that is missing."""
    if given is None:
        return None if without else find_kernels(manifest.folder)
    if without:
        raise EdgefelError("--kernels and --no-kernels exclude each other; leave one out")
    if not given.is_dir():
        raise EdgefelError(
            f"--kernels: {given}: no such folder; give one of 'edgefel kernels compile', or the folder kernels of "
            "'edgefel pack', or leave the option out"
        )
    if not any(has_functions(manifest.folder / source.name) for source in sources):
        raise EdgefelError(
            f"{manifest.folder}: --kernels: its ONNX files have no fused operators; export it with --attention plugin, "
            "or leave the option out"
        )
    return given


def _build(
    manifest: Manifest,
    source: BundleFile,
    options: EngineOptions,
    cache: EngineCache | None,
    reuse: bool,
    progress: Progress,
    kernels: Path | None,
) -> BundleEngine:
    folder, name = manifest.folder, _engine_name(source)
    onnx = manifest.verify(source)
    if "uint8" in str((source.builder or {}).get("activations")):
        raise EdgefelError(
            f"{onnx}: its activations are uint8, for ONNX Runtime, and TensorRT takes int8 with the zero point 0; "
            "'edgefel export --int8' writes model.int8-fp16.onnx for TensorRT"
        )
    with _room(folder, name) as room:
        engine, report = room / name, room / f"{name}.layers.json"
        builder = build_engine(
            onnx,
            engine,
            options,
            progress,
            cache=cache,
            reuse=reuse,
            report_path=report,
            kernels=kernels,
        )
        builder["source"] = source.name
        if source.precision == "int8":
            builder["warnings"] = [
                *builder["warnings"],
                f"{source.name} is quantized for ONNX Runtime, its other layers are FP32; "
                "'edgefel export --int8 --engine' writes INT8 over FP16 for TensorRT",
            ]
        file = describe_file(engine, kind="engine", precision=source.precision, builder=builder)
        _install(folder, (engine, report), file, room)
    return BundleEngine(file, "from cache" if builder["cached"] else "built")


@contextmanager
def _room(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder in the bundle, on the same disk, that is gone afterwards."""
    try:
        with claimed_folder(folder / name, sole=False) as room:
            yield room
    except OSError as error:
        raise EdgefelError(
            f"{folder}: {name} cannot be recorded ({error.strerror or error}); free disk space, or copy the "
            "bundle to a folder that can be written"
        ) from error


def _install(folder: Path, files: tuple[Path, ...], entry: BundleFile, room: Path) -> None:
    """Moves the files into the bundle and records the engine: all of it, or the bundle stays as it was."""
    aside = room / "old"
    aside.mkdir()
    targets = [folder / file.name for file in files]
    new = [target for target in targets if not target.exists()]
    try:
        for file, target in zip(files, targets, strict=True):
            if target.exists():
                target.replace(aside / target.name)
            file.replace(target)
        # read again: somebody else may have added a file during a build of minutes
        write_manifest(folder, read_manifest(folder).with_file(entry))
    except BaseException:
        for target in targets:
            if (aside / target.name).exists():
                (aside / target.name).replace(target)
            elif target in new:
                target.unlink(missing_ok=True)
        raise
