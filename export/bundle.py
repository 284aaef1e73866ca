"""From a checkpoint to a bundle: ONNX files, engines, and a manifest with the results of their comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgefel.calib.calibration_set import CalibrationSet, check_preprocessing, write_calibration_set
from edgefel.calib.images import ComparedImages, choose_images, load_images
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.thresholds import CalibrationMethod
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.attention import onnx_attention
from edgefel.export.onnx.fused import fuse_operators, fused_head
from edgefel.export.onnx.inputs import uint8_input
from edgefel.export.onnx.passes import keep_outputs
from edgefel.export.onnx.rewrite import opset_of
from edgefel.export.onnx.trace import check_graph, export_onnx, save_onnx
from edgefel.export.options import ExportOptions, exported_preprocessing
from edgefel.export.parity.gate import Gate
from edgefel.export.parity.limits import LIMITS, ParityLimits
from edgefel.export.precision.mixed import find_mix, mix_entry, write_search
from edgefel.export.precision.precisions import Build, PrecisionGraph, Ranges, calibrate_ranges, make_graphs
from edgefel.export.precision.search import SearchResult
from edgefel.export.qat.ranges import TrainedRanges
from edgefel.export.record import CALIBRATION_NAME, model_info, source_entry, tool_versions
from edgefel.export.tensorrt.engine import EngineCache, build_engine, load_tensorrt
from edgefel.export.tensorrt.formats import check_formats
from edgefel.files.write import atomic_folder, check_free
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import (
    MADE_FOR,
    MANIFEST_NAME,
    OUTPUT_NAMES,
    BundleFile,
    Manifest,
    describe_file,
    write_manifest,
)
from edgefel.runtime.requirements import onnx_requirement

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

RANGES_KEPT = "INT8 with the ranges that the checkpoint was trained with, without a calibration"
__all__ = ["ExportOptions", "ExportReport", "export_bundle", "summarize", "tool_versions"]


@dataclass(frozen=True)
class ExportReport:
    """A finished export: the folder's manifest, everything the user should be told, and how the precision mix
    was found (`auto`). notes: what is no cause for concern."""

    manifest: Manifest
    warnings: tuple[str, ...]
    search: SearchResult | None = None
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a file failed its comparison with PyTorch: the runtime refuses that one."""
        return any(file.verdict == "fail" for file in self.manifest.files)


def summarize(report: ExportReport) -> list[dict[str, Any]]:
    """One row per file for tables and JSON; numbers are None where nothing was compared."""
    compared = [(file, file.parity or {}) for file in report.manifest.files]
    return [
        {
            "file": file.name,
            "precision": file.precision,
            "megabytes": file.bytes / 1e6,
            "max_deviation": max(parity.get("max_abs", {}).values(), default=None),
            "logits_sqnr_db": parity.get("logits_sqnr_db"),
            "top1_agreement": parity.get("top1_agreement"),
            "verdict": file.verdict,
            "reasons": list(parity.get("reasons", ())),
            "accuracy": (parity.get("labels") or {}).get("accuracy"),
            "before": parity.get("before"),
        }
        for file, parity in compared
    ]


def export_bundle(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    limits: Mapping[str, ParityLimits] = LIMITS,
    replace: bool = False,
    progress: Progress = SILENT,
) -> ExportReport:
    """Exports a checkpoint (or the best one of a run folder) into the new folder `output`.

    Every ONNX file is compared with PyTorch FP32 in ONNX Runtime and judged by the `limits` of its precision.
    One that fails is written and marked so in the manifest, unless its limits are fatal (FP32's are): that
    ends the export. `data` gives calibration and comparison images, synthetic faces stand in for it. Nothing
    appears under `output` unless all of it succeeds; `replace` allows replacing an older bundle.

    Raises EdgefelError for a broken checkpoint, unusable data, a folder that is in use, a fatal comparison
    or a failed engine build.
    """
    from edgefel.models.checkpoint import load_checkpoint

    options = options or ExportOptions()
    _check_output(Path(output), replace)
    if options.engine:
        # a missing TensorRT should not be noticed after minutes of work
        load_tensorrt(options.engine_options)
        check_formats(options.engine_precisions, options.engine_options, "--engine")
    progress.start("load checkpoint")
    loaded = load_checkpoint(os.fspath(checkpoint))
    with atomic_folder(output, replace=replace) as folder:
        _check_output(Path(output), replace)  # again: what came meanwhile is not replaced
        return _Export(loaded, options, folder, data, progress, limits, home=Path(output)).run()


@dataclass
class _Export:
    """The state that the steps of one export share. folder: where files are written; home: where they will lie."""

    checkpoint: Checkpoint
    options: ExportOptions
    folder: Path
    data: str | os.PathLike[str] | None
    progress: Progress
    limits: Mapping[str, ParityLimits]
    home: Path

    def __post_init__(self) -> None:
        options = self.options
        self.own = Preprocessing.from_dict(self.checkpoint.preprocessing)
        self.preprocessing = exported_preprocessing(self.own, options.input_size)
        self.ranges = TrainedRanges.of(self.checkpoint)
        quantized = "int8" in options.precisions
        self.trained = self.ranges if quantized and not options.recalibrate else None
        self.images = choose_images(
            self.data,
            self.checkpoint.labels,
            calibrate=options.calibrates and (self.trained is None or "fp8" in options.precisions),
            per_class=options.per_class,
            group_cap=options.group_cap,
            seed=options.seed,
            calibration_set=options.calibration_set,
            layout=options.layout,
        )
        self.warnings: list[str] = list(self.images.warnings)
        self.notes: list[str] = []
        if self.trained is not None:
            self.notes.append(f"{RANGES_KEPT}; --calibration METHOD calibrates anew")
        elif self.ranges is not None and quantized:
            self.warnings.append(
                "calibrated anew: the ranges that this checkpoint was trained with are not used"
            )
        self.files: list[BundleFile] = []
        self.search: SearchResult | None = None
        if options.auto and not self.images.labelled:
            raise EdgefelError("--auto: the search goes by recall; give labelled images with --data")
        if self.images.given is not None:
            check_preprocessing(self.images.given, self.own, options.calibration_set or "")
        chosen, dataset, indices = self.images.record(
            options.per_class, options.group_cap, options.seed, self.own, options.layout
        )
        # `edgefel parity` leaves these images out
        self.calibration_set: CalibrationSet | None = chosen
        self.reader = CalibrationReader(dataset, indices, self.preprocessing)
        self.searched, self.compared = self.images.draw(
            options.parity_images,
            options.seed,
            {image.sha256 for image in chosen.images} if chosen is not None else (),
            search=options.search_images if options.auto else 0,
        )

    def run(self) -> ExportReport:
        gate = self._gate()
        for precision, made in self._graphs().items():
            self._write(precision, made, gate)
        if self.search is not None:
            write_search(self.folder, self.search, self._search_entry())
        for precision in self.options.engine_precisions:
            self.files.append(self._engine(precision))
        if self.calibration_set is not None:
            write_calibration_set(self.folder / CALIBRATION_NAME, self.calibration_set, portable=True)
        manifest = self._manifest()
        write_manifest(self.folder, manifest)
        return ExportReport(manifest, tuple(self.warnings), self.search, tuple(self.notes))

    def _gate(self) -> Gate:
        """PyTorch on images that calibration did not see."""
        compared = self._load(self.compared)
        if compared.skipped:
            named = ", ".join(compared.skipped[:3])
            self.warnings.append(f"{len(compared.skipped)} unreadable comparison images skipped: {named}")
        before = None if self.ranges is None else self.ranges.before(self.checkpoint)
        if self.ranges is not None and before is None:
            self.warnings.append(
                f"{self.checkpoint.path / self.ranges.original['path']}: the network before training for INT8 is not "
                "there, so that files are not compared with it"
            )
        return Gate(
            self.checkpoint,
            compared,
            self.limits,
            seed=self.options.seed,
            progress=self.progress,
            before=before,
        )

    def _load(self, indices: Sequence[int]) -> ComparedImages:
        return load_images(
            self.images.held_out_dataset,
            indices,
            self.checkpoint.labels,
            self.own,
            self.images.sources["parity"],
            labelled=self.images.labelled,
            progress=self.progress,
        )

    def _graphs(self) -> dict[str, PrecisionGraph]:
        self.progress.start("trace and simplify")
        graph = export_onnx(
            self.checkpoint.model, input_size=self.preprocessing.output_size, opset=self.options.opset
        )
        attended = None
        if self.options.attention == "onnx-attention":
            attended, made = onnx_attention(graph)
            if not made:
                raise EdgefelError("--attention onnx-attention: the graph has no attention in the known form")
        anchors = self.checkpoint.model.head.anchors
        return make_graphs(
            graph,
            self.options.onnx_precisions,
            anchors=None if anchors is None else anchors.detach().float().cpu().numpy(),
            calibrate=self._calibrate,
            choose=self._choose if self.options.auto else None,
            attended=attended,
        )

    def _choose(self, model: onnx.ModelProto, layers: Sequence[str], build: Build) -> Mapping[str, str]:
        """The layers that stay in float, found on images that the final comparison does not see."""
        compared = self._load(self.searched)
        gate = Gate(self.checkpoint, compared, self.limits, seed=self.options.seed)
        drop = self.options.max_drop
        self.search = find_mix(model, layers, build, gate, self.preprocessing, drop, self.progress)
        return self.search.keep_float

    def _search_entry(self) -> dict[str, Any]:
        assert self.search is not None
        return mix_entry(self.search, self.options.max_drop, len(self.searched))

    def _calibrate(
        self, graph: onnx.ModelProto, activations: Sequence[str], method: CalibrationMethod | None = None
    ) -> Ranges:
        if self.trained is not None and method is None:
            return self.trained.for_export(graph, activations)
        source = dict(self.images.sources["calibration"])
        key = None if self.calibration_set is None else self.calibration_set.key()
        if key is not None:
            source |= {"key": key, "set": CALIBRATION_NAME}
        return calibrate_ranges(
            graph,
            activations,
            self.reader,
            method or self.options.method,
            source,
            len(self.checkpoint.labels),
            key if self.options.cache else None,
            self.progress,
        )

    def _finish(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Drops outputs, changes the input and fuses operators as asked; last, so that all other steps see the whole,
        flat graph."""
        outputs = self.options.kept_outputs
        if outputs != OUTPUT_NAMES:
            model, _ = keep_outputs(model, outputs)
        if self.options.uint8_input:
            model, _ = uint8_input(model, self.preprocessing)
        plugin = self.options.attention == "plugin"
        if plugin:
            model, _ = fuse_operators(model, fused_head(self.checkpoint.model))
        if self.options.uint8_input or plugin or outputs != OUTPUT_NAMES:
            check_graph(model, outputs)  # others were checked when they were made
        return model

    def _write(self, precision: str, made: PrecisionGraph, gate: Gate) -> None:
        """Writes a file, judges it and notes both; raises EdgefelError for a failure that is fatal."""
        self.warnings.extend(made.warnings)
        path = self._path(precision)
        model = self._finish(made.model)
        save_onnx(model, path)
        outputs, kind = self.options.kept_outputs, self._input_type
        parity = gate.judge(path, precision, self.preprocessing, input_type=kind, outputs=outputs)
        if parity.verdict == "fail" and parity.limits.fatal:
            raise EdgefelError(
                f"{path.name}: differs from PyTorch ({'; '.join(parity.reasons)}); nothing was written. "
                "Check the checkpoint with 'edgefel evaluate', or try another --opset"
            )
        if parity.verdict == "warn":
            self.warnings.extend(f"{path.name}: {reason}" for reason in parity.reasons)
        # for a comparison on other classes than the model's, which these are
        classes = {} if self.images.classes is None else {"classes": self.images.classes}
        self.files.append(
            describe_file(
                path,
                kind="onnx",
                precision=precision,
                parity={"inputs": gate.images.source, **classes, **parity.to_dict()},
                builder=self._builder(made, precision) or None,
                made_for=MADE_FOR[precision],
                requires=onnx_requirement(
                    model.ir_version, opset_of(model), quantized=precision not in ("fp32", "fp16")
                ),
            )
        )

    def _builder(self, made: PrecisionGraph, precision: str) -> dict[str, Any]:
        entry = dict(made.builder)
        if self.search is not None and precision.startswith("int8"):
            entry["search"] = self._search_entry()
        if self.options.attention != "decomposed":
            entry["attention"] = self.options.attention
        return entry

    def _path(self, precision: str) -> Path:
        return self.folder / f"model.{precision.replace('+', '-')}.onnx"

    @property
    def _input_type(self) -> str:
        return "uint8" if self.options.uint8_input else "float32"

    def _engine(self, precision: str) -> BundleFile:
        source = self._path(precision)
        target = source.with_suffix(".engine")
        self.progress.start(f"build {precision} engine")
        builder = build_engine(
            source,
            target,
            self.options.engine_options,
            self.progress,
            cache=EngineCache.default() if self.options.cache else None,
            report_path=target.with_name(f"{target.name}.layers.json"),
        )
        builder["source"] = source.name
        return describe_file(target, kind="engine", precision=precision, builder=builder)

    def _manifest(self) -> Manifest:
        return Manifest(
            model=model_info(self.checkpoint.config),
            labels=self.checkpoint.labels,
            preprocessing=self.preprocessing,
            input_type=self._input_type,
            outputs=self.options.kept_outputs,
            files=tuple(self.files),
            source=source_entry(self.checkpoint, self.home),
            tools=tool_versions(),
            framing=self.checkpoint.framing,
        )


def _check_output(output: Path, replace: bool) -> None:
    """`replace` may remove a bundle and nothing else: a mistyped folder must survive it."""
    check_free(output, replace=True)
    if not replace and output.is_dir() and any(output.iterdir()):
        raise EdgefelError(
            f"{output}: the folder is not empty; choose another one, or --overwrite to replace a bundle"
        )
    if replace and output.is_dir() and any(output.iterdir()) and not (output / MANIFEST_NAME).is_file():
        raise EdgefelError(
            f"{output}: holds other files than a bundle and is not replaced; choose another folder"
        )
