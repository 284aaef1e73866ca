"""From a checkpoint to a bundle: ONNX files, engines, and a manifest that says what they are worth."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefel import __version__
from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, Placement, PlacementPolicy, place
from edgefel.calib.quantize import quantize
from edgefel.calib.reader import CalibrationReader
from edgefel.data.folder import UnreadableImageError
from edgefel.errors import EdgefelError
from edgefel.export.images import ExportImages, choose_images
from edgefel.export.onnx_graph import check_graph, export_onnx, save_onnx
from edgefel.export.options import FILE_STEMS, ExportOptions, exported_preprocessing
from edgefel.export.parity import LIMITS, Outputs, Parity, compare, onnx_outputs, reference_outputs
from edgefel.export.precision import float32_nodes, to_half
from edgefel.export.progress import SILENT, Progress
from edgefel.export.tensorrt_engine import build_engine, load_tensorrt
from edgefel.files import atomic_folder, sha256
from edgefel.runtime.manifest import (
    MANIFEST_NAME,
    BundleFile,
    Manifest,
    ModelInfo,
    describe_file,
    write_manifest,
)
from edgefel.runtime.preprocessing import Image, Preprocessing

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

__all__ = ["ExportOptions", "ExportReport", "export_bundle", "summarize", "tool_versions"]

PARITY_BATCH = 8
_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")


@dataclass(frozen=True)
class ExportReport:
    """A finished export: the folder's manifest, and everything the user should be told."""

    manifest: Manifest
    warnings: tuple[str, ...]


def export_bundle(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> ExportReport:
    """Exports a checkpoint (or the best one of a run folder) into the new folder `output`.

    Every ONNX file is compared with PyTorch FP32 in ONNX Runtime. An FP32 file that deviates by more than
    1e-4, or any output that is not finite, ends the export; reduced precisions beyond their limits are
    written and marked "warn". `data` gives calibration and comparison images, synthetic faces stand in for
    it. Nothing appears under `output` unless all of it succeeds; `replace` allows replacing an older bundle.

    Raises EdgefelError for a broken checkpoint, unusable data, a folder that is in use, a failed comparison
    or a failed engine build.
    """
    from edgefel.models.checkpoint import load_checkpoint

    options = options or ExportOptions()
    _check_output(Path(output), replace)
    if options.engine:
        load_tensorrt()  # a missing TensorRT should not be noticed after minutes of work
    progress.start("load checkpoint")
    loaded = load_checkpoint(os.fspath(checkpoint))
    with atomic_folder(output, replace=replace) as folder:
        return _Export(loaded, options, folder, data, progress).run()


class _Export:
    """The state that the steps of one export share."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: ExportOptions,
        folder: Path,
        data: str | os.PathLike[str] | None,
        progress: Progress,
    ) -> None:
        self.checkpoint = checkpoint
        self.options = options
        self.folder = folder
        self.progress = progress
        self.own = Preprocessing.from_dict(checkpoint.preprocessing)
        self.preprocessing = exported_preprocessing(self.own, options.input_size)
        self.images: ExportImages = choose_images(
            data,
            checkpoint.labels,
            calibrate="int8" in options.precisions,
            per_class=options.per_class,
            group_cap=options.group_cap,
            seed=options.seed,
            parity_images=options.parity_images,
            calibration_set=options.calibration_set,
        )
        self.warnings: list[str] = list(self.images.warnings)
        self.files: list[BundleFile] = []

    def run(self) -> ExportReport:
        crops = self._load_crops()
        reference = self._reference(crops)
        self.progress.start("trace and simplify")
        graph = export_onnx(
            self.checkpoint.model, input_size=self.preprocessing.output_size, opset=self.options.opset
        )
        for precision, (model, builder) in self._graphs(graph).items():
            path = self.folder / f"{FILE_STEMS[precision]}.onnx"
            save_onnx(model, path)
            parity = self._compare(path, precision, crops, reference)
            self.files.append(
                describe_file(
                    path,
                    kind="onnx",
                    precision=precision,
                    parity={"inputs": self.images.sources["parity"], **parity.to_dict()},
                    builder=builder or None,
                )
            )
        for precision in self.options.engine_precisions:
            self.files.append(self._engine(precision))
        manifest = self._manifest()
        write_manifest(self.folder, manifest)
        return ExportReport(manifest, tuple(self.warnings))

    def _graphs(self, graph: onnx.ModelProto) -> dict[str, tuple[onnx.ModelProto, dict[str, Any]]]:
        """Per precision, the graph and how it was made."""
        wanted = self.options.onnx_precisions
        graphs: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {}
        if "fp32" in wanted:
            graphs["fp32"] = (graph, {})
        if "fp16" in wanted:
            graphs["fp16"] = self._half(graph, {})
        if "int8" in wanted:
            policies = {"int8": ONNXRUNTIME, "int8+fp16": TENSORRT}
            quantized = self._quantized(graph, {name: p for name, p in policies.items() if name in wanted})
            graphs["int8"] = quantized["int8"]
            if "int8+fp16" in quantized:
                graphs["int8+fp16"] = self._half(*quantized["int8+fp16"])
        for model, _ in graphs.values():
            check_graph(model)
        return graphs

    def _half(
        self, graph: onnx.ModelProto, builder: dict[str, Any]
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        anchors = self.checkpoint.model.head.anchors
        values = None if anchors is None else anchors.detach().float().cpu().numpy()
        half, report = to_half(graph, float32_nodes(graph, values))
        if report.clamped:
            self.warnings.append(
                f"values beyond the range of FP16 were clamped in {', '.join(report.clamped[:3])} "
                f"({len(report.clamped)} tensors)"
            )
        return half, {**builder, "float32_nodes": len(report.float32_nodes), "clamped": list(report.clamped)}

    def _quantized(
        self, graph: onnx.ModelProto, policies: dict[str, PlacementPolicy]
    ) -> dict[str, tuple[onnx.ModelProto, dict[str, Any]]]:
        placements = {name: place(graph, policy) for name, policy in policies.items()}
        choice = self.images.calibration
        assert choice is not None
        reader = CalibrationReader(self.images.dataset, choice.indices, self.preprocessing)
        tensors = list(dict.fromkeys(name for p in placements.values() for name in p.activations))
        self.progress.start("calibrate INT8", len(reader))
        histograms = collect_activations(graph, tensors, reader, self.progress.advance)
        used = reader.require(len(self.checkpoint.labels))
        if reader.skipped:
            named = ", ".join(path.name for path in reader.skipped[:3])
            self.warnings.append(f"{len(reader.skipped)} unreadable calibration pictures skipped: {named}")
        scales = activation_scales(histograms, self.options.method)
        calibration = {
            **self.images.sources["calibration"],
            "used": used,
            "skipped": [path.name for path in reader.skipped],
            "method": self.options.method,
        }
        return {
            name: (quantize(graph, placement, scales), _quantizer_entry(placement, calibration))
            for name, placement in placements.items()
        }

    def _load_crops(self) -> list[Image]:
        """The comparison's pictures, already resized: each is read or drawn once for all files."""
        self.progress.start("load comparison images", len(self.images.parity))
        crops: list[Image] = []
        skipped: list[str] = []
        for index in self.images.parity:
            try:
                crops.append(self.own.resize_image(self.images.parity_dataset.load(index)))
            except UnreadableImageError as error:
                skipped.append(error.path.name)
            self.progress.advance()
        if not crops:
            raise EdgefelError(f"none of {len(skipped)} comparison pictures can be read, e.g. {skipped[0]}")
        if skipped:
            self.warnings.append(
                f"{len(skipped)} unreadable comparison pictures skipped: {', '.join(skipped[:3])}"
            )
        return crops

    def _reference(self, crops: list[Image]) -> Outputs:
        """PyTorch on its own preprocessing: a resample moved out of the graph is part of the comparison."""
        self.progress.start("PyTorch reference", len(crops))
        reference = reference_outputs(self.checkpoint.model, _batches(crops, self.own), self.progress)
        broken = [name for name, values in reference.items() if not np.isfinite(values).all()]
        if broken:
            raise EdgefelError(
                f"{self.checkpoint.path}: {', '.join(broken)} of this model are not finite; its training has "
                "diverged, export an earlier checkpoint"
            )
        return reference

    def _compare(self, path: Path, precision: str, crops: list[Image], reference: Outputs) -> Parity:
        self.progress.start(f"compare {precision} with PyTorch", len(crops))
        actual = onnx_outputs(path, _batches(crops, self.preprocessing), self.progress)
        parity = compare(reference, actual, LIMITS[precision])
        if parity.status == "fail":
            raise EdgefelError(
                f"{path.name}: differs from PyTorch ({'; '.join(parity.reasons)}); nothing was written. "
                "Check the checkpoint with 'edgefel evaluate', or try another --opset"
            )
        self.warnings.extend(f"{path.name}: {reason}" for reason in parity.reasons)
        return parity

    def _engine(self, precision: str) -> BundleFile:
        source = self.folder / f"{FILE_STEMS[precision]}.onnx"
        target = source.with_suffix(".engine")
        self.progress.start(f"build {precision} engine")
        builder = build_engine(source, target, self.options.engine_options, self.progress)
        builder["source"] = source.name
        return describe_file(target, kind="engine", precision=precision, builder=builder)

    def _manifest(self) -> Manifest:
        from edgefel.models.checkpoint import WEIGHTS_FILE
        from edgefel.models.profile import profile

        config = self.checkpoint.config
        counted = profile(config)
        return Manifest(
            model=ModelInfo(
                name=config.name,
                num_classes=config.num_classes,
                parameters=counted.parameters,
                gmac=round(counted.macs / 1e9, 4),
                embedding_dim=config.encoder.width if config.head is None else config.head.embedding_dim,
            ),
            labels=self.checkpoint.labels,
            preprocessing=self.preprocessing,
            files=tuple(self.files),
            source={
                "checkpoint": self.checkpoint.path.name,
                "sha256": sha256(self.checkpoint.path / WEIGHTS_FILE),
            },
            tools=tool_versions(),
        )


def _batches(crops: list[Image], preprocessing: Preprocessing) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(crops), PARITY_BATCH):
        yield preprocessing.batch(crops[start : start + PARITY_BATCH])


def tool_versions() -> dict[str, str]:
    """Versions of what makes an export, as far as they are installed."""
    versions = {"edgefel": __version__}
    for name in _TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _quantizer_entry(placement: Placement, calibration: dict[str, Any]) -> dict[str, Any]:
    return {
        "policy": placement.policy.name,
        "int8_nodes": len(placement.nodes),
        "float_nodes": dict(placement.kept_float),
        "calibration": calibration,
    }


def _check_output(output: Path, replace: bool) -> None:
    """`replace` may remove a bundle and nothing else: a mistyped folder must survive it."""
    if not replace and output.is_dir() and any(output.iterdir()):
        raise EdgefelError(
            f"{output}: the folder is not empty; choose another one, or --force to replace a bundle"
        )
    if replace and output.is_dir() and any(output.iterdir()) and not (output / MANIFEST_NAME).is_file():
        raise EdgefelError(
            f"{output}: holds other files than a bundle and is not replaced; choose another folder"
        )


def summarize(report: ExportReport) -> list[dict[str, Any]]:
    """One row per file for tables and JSON; numbers are None where nothing was compared."""
    return [_row(file) for file in report.manifest.files]


def _row(file: BundleFile) -> dict[str, Any]:
    parity = file.parity or {}
    deviations: Sequence[float] = list(parity.get("max_abs", {}).values())
    return {
        "file": file.name,
        "precision": file.precision,
        "megabytes": file.bytes / 1e6,
        "max_deviation": max(deviations) if deviations else None,
        "logits_sqnr_db": parity.get("logits_sqnr_db"),
        "top1_agreement": parity.get("top1_agreement"),
        "status": parity.get("status"),
    }
