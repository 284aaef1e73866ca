"""Every quantizer on one FP32 file and the same images: files are judged, timed, and built by TensorRT."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgefel.bench.compare.contenders import Subject
from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.quantizers.tools import EDGEFEL, Setting, Tool, all_settings, run_once, timed
from edgefel.bench.results import Row, check_counts, check_names
from edgefel.bench.timer import FULL, Advance, TimingPlan, measure, ratio_to
from edgefel.calib.images import ComparedImages, choose_images, load_images
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.thresholds import METHODS, CalibrationMethod
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.export.onnx.passes import gather_prelu
from edgefel.export.onnx.trace import save_onnx
from edgefel.export.parity.compare import Outputs, Parity, compare
from edgefel.export.parity.gate import onnx_outputs
from edgefel.export.parity.limits import LIMITS
from edgefel.export.tensorrt.engine import build_engine, load_tensorrt
from edgefel.files.unfinished import claimed_folder
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile
from edgefel.runtime.manifest import BundleFile, Manifest, describe_file, read_manifest
from edgefel.text import one_line
from edgefel.workers import worker_pool

RUNTIMES = ("onnxruntime", "openvino")
FP32 = Setting(Tool("FP32", "edgefel", "edgefel", "edgefel"), "what is quantized", lambda *_: None, "")
_REASON = 300  # characters of what a tool says where it fails
_IMAGES = "images.npy"


@dataclass(frozen=True)
class QuantizerOptions:
    """What is run, and how.

    data, layout: labelled images to calibrate and judge on; synthetic faces without them. per_class, group_cap, seed:
    which images calibrate, as an export draws them. images: held-out ones that files are judged on. method: how edgefel
    chooses ranges. tools: names, None for all. threads: of one timed call. engines: have TensorRT build each file.
    Raises EdgefelError for names that are not known, and for numbers below 1.
    """

    data: str | os.PathLike[str] | None = None
    layout: str | None = None
    per_class: int = 64
    group_cap: int = 32
    images: int = 1000
    method: CalibrationMethod = "percentile"
    tools: tuple[str, ...] | None = None
    threads: int = 1
    plan: TimingPlan = FULL
    seed: int = 0
    engines: bool = True

    def __post_init__(self) -> None:
        check_counts(per_class=self.per_class, images=self.images, threads=self.threads)
        check_names("calibration method", (self.method,), METHODS)
        check_names("tool", self.tools, tuple(dict.fromkeys(one.tool.module for one in all_settings("mse"))))

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Of the tools that are wanted."""
        return tuple(
            one for one in all_settings(self.method) if self.tools is None or one.tool.module in self.tools
        )


def bench_quantizers(
    subject: Subject, options: QuantizerOptions, advance: Advance = lambda step, share: None
) -> tuple[Row, ...]:
    """A row for the FP32 file and for each setting of each tool; one of a tool that is missing, or fails, says why.

    subject: with a bundle, whose FP32 file is quantized and is what the others are judged by. Raises EdgefelError for a
    bundle without one or with a uint8 input, and for unusable data.
    """
    manifest = read_manifest(subject.folder)
    source = manifest.verify(manifest.find("fp32"))
    if manifest.input_type != "float32":
        raise EdgefelError(
            f"{manifest.folder}: takes uint8, and quantizers want float32; export it again without --uint8-input"
        )
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        bench = _Bench(subject, manifest, source, options, work, advance)
        return measured_rows("quantizers", bench.found())


@dataclass
class _Bench:
    subject: Subject
    manifest: Manifest
    source: Path
    options: QuantizerOptions
    work: Path
    advance: Advance

    @property
    def plain(self) -> Path:
        """The FP32 file that the tools get."""
        return self.work / "plain.onnx"

    def found(self) -> Iterator[Found]:
        calibrated, judged_on = self._images()
        # as PyTorch exports it: quantizers know PReLU, and not the form that is faster in ONNX Runtime
        save_onnx(gather_prelu(onnx.load(self.source))[0], self.plain)
        self.advance("FP32", 0.0)
        reference = self._outputs(self.source, judged_on)
        rows: list[tuple[Setting, dict[str, Any]]] = [(FP32, {"file_bytes": self.source.stat().st_size})]
        files = {FP32.name: self.source}
        settings = self.options.settings
        for number, setting in enumerate(settings):
            self.advance(setting.name, number / len(settings))
            metrics = self._quantize(setting, self.work / f"{number}.onnx")
            file = self.work / f"{number}.onnx"
            if "reason" not in metrics:
                metrics |= self._judge(reference, file, judged_on)
                files[setting.name] = file
            rows.append((setting, metrics))
        speeds = self._speeds(files)
        for setting, metrics in rows:
            if (made := files.get(setting.name)) is not None:
                metrics["speed"] = {
                    name: found[setting.name] for name, found in speeds.items() if setting.name in found
                }
                metrics["tensorrt"] = _built(made, self.work) if self.options.engines else None
            known = {"calibration_images": calibrated, "images": len(judged_on), "source": setting.source}
            reasons = [metrics["reason"]] if "reason" in metrics else []
            reasons += [
                f"{name}: {found['failed']}"
                for name, found in metrics.get("speed", {}).items()
                if "failed" in found
            ]
            yield self._named(setting), known | metrics, [*reasons, *self._notes(judged_on)]

    def _named(self, setting: Setting) -> dict[str, Any]:
        names = {"quantizer": setting.tool.name, "settings": setting.settings}
        return {"model": self.subject.name, **names, "threads": self.options.threads}

    def _notes(self, judged_on: ComparedImages) -> list[str]:
        notes = [f"{self.options.per_class} calibration images of each class; judged on {judged_on.source}"]
        return notes if self.subject.trained else [*notes, "random weights: its labels mean nothing"]

    def _images(self) -> tuple[int, ComparedImages]:
        """How many images calibrate, which are in a file that all tools read, and those to judge on."""
        options, preprocessing = self.options, self.manifest.preprocessing
        labels = self.manifest.labels
        chosen = choose_images(
            options.data,
            labels,
            calibrate=True,
            per_class=options.per_class,
            group_cap=options.group_cap,
            seed=options.seed,
            layout=options.layout,
        )
        listed, dataset, indices = chosen.record(
            options.per_class, options.group_cap, options.seed, preprocessing, options.layout
        )
        reader = CalibrationReader(dataset, indices, preprocessing)
        images = np.concatenate(list(reader))
        np.save(self.work / _IMAGES, images)
        seen = set() if listed is None else {image.sha256 for image in listed.images}
        drawn = chosen.draw(options.images, options.seed, seen)[1]
        judged_on = load_images(
            chosen.held_out_dataset,
            drawn,
            labels,
            preprocessing,
            chosen.sources["parity"],
            labelled=chosen.labelled and self.subject.trained,
        )
        return len(images), judged_on

    def _outputs(self, file: Path, images: ComparedImages) -> Outputs:
        batches = images.batches(self.manifest.preprocessing)
        return onnx_outputs(file, batches, outputs=self.manifest.outputs, threads=self.options.threads)

    def _quantize(self, setting: Setting, output: Path) -> dict[str, Any]:
        """Its version, and seconds or the reason why there is no file."""
        if (reason := setting.tool.unavailable_reason()) is not None:
            return {"reason": reason}
        metrics: dict[str, Any] = {"version": setting.tool.version}
        own = output.with_suffix(".fp32.onnx")
        shutil.copyfile(self.plain, own)  # ModelOpt writes into the file that it reads
        try:
            with worker_pool(1) as pool:
                task = pool.submit(timed, setting.quantize, own, self.work / _IMAGES, output)
                return metrics | {"quantize_seconds": round(task.result(), 1)}
        except Exception as error:  # whatever a tool raises on this file is what the row is there to say
            return metrics | {"reason": f"failed: {type(error).__name__}: {one_line(error)[:_REASON]}"}

    def _judge(self, reference: Outputs, file: Path, images: ComparedImages) -> dict[str, Any]:
        """As the gate judges an INT8 file; by the FP32 file."""
        try:
            parity = compare(
                reference,
                self._outputs(file, images),
                LIMITS["int8"],
                targets=images.targets,
                labels=self.manifest.labels,
                columns=images.columns,
                outputs=self.manifest.outputs,
                seed=self.options.seed,
            )
        except EdgefelError as error:
            return {"file_bytes": file.stat().st_size, "reason": str(error)[:_REASON]}
        return {"file_bytes": file.stat().st_size, **_judgement(parity)}

    def _speeds(self, files: Mapping[str, Path]) -> dict[str, dict[str, dict[str, Any]]]:
        """By runtime and name: how many times as fast as FP32 in the same runtime, all files in turn; or the reason
        why the runtime does not run the file."""
        image = np.load(self.work / _IMAGES, mmap_mode="r")[:1].copy()
        speeds: dict[str, dict[str, dict[str, Any]]] = {}
        for runtime in RUNTIMES:
            with ExitStack() as opened:
                speeds[runtime], calls = {}, {}
                for name, file in files.items():
                    session = self._open(runtime, file, opened)
                    if isinstance(session, str):
                        speeds[runtime][name] = {"failed": session[:_REASON]}
                    else:
                        calls[name] = partial(session.run, image)
                if FP32.name not in calls:
                    continue
                timings = measure(
                    calls, self.options.plan, advance=partial(self.advance, f"speed in {runtime}")
                )
                speeds[runtime] |= {
                    name: {"ms_p50": round(timings[name].p50, 3), **ratio_to(timings, FP32.name, name)}
                    for name in calls
                }
        return speeds

    def _open(self, runtime: str, file: Path, opened: ExitStack) -> Backend | str:
        """The file in the runtime, or why not. It is run once in another process before: files of other tools have
        crashed OpenVINO."""
        precision = "fp32" if file == self.source else "int8"
        described: BundleFile = describe_file(file, kind="onnx", precision=precision)
        backend = BACKENDS[runtime].load()
        if (reason := backend.unavailable_reason(described)) is not None:
            return reason
        whole = ModelFile.of(self.manifest, self.manifest.find("fp32"))
        model = ModelFile(file, described, whole.image_shape, whole.dtype, whole.output_shapes)
        try:
            if file != self.source:
                with worker_pool(1) as pool:
                    pool.submit(run_once, runtime, model, self.options.threads).result()
            session = backend.open(model, threads=self.options.threads)
        except EdgefelError as error:
            return str(error)
        opened.callback(session.close)
        return session


def _judgement(parity: Parity) -> dict[str, Any]:
    found: dict[str, Any] = {
        "agreement": parity.top1_agreement,
        "agreement_interval": None if parity.agreement_interval is None else list(parity.agreement_interval),
        "sqnr_db": parity.logits_sqnr_db,
        "kl_mean": parity.kl_mean,
        "verdict": parity.verdict,
        "reasons": list(parity.reasons),
    }
    if parity.labels is not None:
        found |= {"accuracy": parity.labels.accuracy, "accuracy_fp32": parity.labels.accuracy_reference}
        changes = [
            row for row in parity.labels.classes if row.change is not None and row.interval is not None
        ]
        worst = min(changes, key=lambda row: row.change or 0.0)
        found["worst_class"] = {
            "label": worst.label,
            "change": worst.change,
            "change_interval": list(worst.interval or ()),
        }
    return found


def _built(file: Path, work: Path) -> dict[str, Any]:
    """Whether TensorRT parses and builds the file, by which package, or why not."""
    try:
        trt = load_tensorrt()
    except MissingDependencyError as error:
        return {"package": None, "builds": None, "reason": str(error)}
    found = {"package": trt.__name__, "version": str(trt.__version__)}
    engine = work / "model.engine"
    try:
        build_engine(file, engine)
    except EdgefelError as error:
        return {**found, "builds": False, "reason": str(error)[:_REASON]}
    return {**found, "builds": True, "engine_bytes": engine.stat().st_size}


def first_of(rows: Sequence[Row], metric: str) -> Row | None:
    """The row with the largest value of the metric; None where no row has one."""
    judged = [row for row in rows if row.metrics.get(metric) is not None]
    return max(judged, key=lambda row: row.metrics[metric], default=None)


def standing(rows: Sequence[Row]) -> str:
    """One line: whether edgefel's row is first in agreement and SQNR, and who is where it is not."""
    parts = []
    for metric, words in (("sqnr_db", "SQNR"), ("agreement", "agreement")):
        best = first_of(rows, metric)
        own = first_of([row for row in rows if row.subject["quantizer"] == EDGEFEL.name], metric)
        if best is None or own is None:
            continue
        if own.metrics[metric] == best.metrics[metric]:
            parts.append(f"edgefel is first in {words}")
        else:
            parts.append(f"{best.subject['quantizer']} ({best.subject['settings']}) is first in {words}")
    return "; ".join(parts) or "nothing was judged"
