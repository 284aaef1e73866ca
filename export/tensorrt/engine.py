"""TensorRT engines from ONNX files: one path for `tensorrt` 10.3 and later and for `tensorrt_rtx`.

Precision lives in the ONNX graph (FP16 types, Q/DQ nodes); the network is strongly typed, so the builder
never changes it. TensorRT for RTX builds without a GPU; full TensorRT builds for the GPU it runs on.

Imports neither torch nor onnx: on a device it runs with TensorRT alone.
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.export.tensorrt.cache import EngineCache, engine_key, load_timings, save_timings
from edgefel.export.tensorrt.layers import engine_report, network_report, summarize_layers
from edgefel.export.tensorrt.network import because, create_builder, parse_network
from edgefel.export.tensorrt.options import (
    MIB,
    Effort,
    EngineOptions,
    add_profile,
    set_compatibility,
    set_effort,
)
from edgefel.export.tensorrt.plugin import ChosenKernels, built_from_bodies, prepare_plugins
from edgefel.export.tensorrt.retry import Attempt, build_with_less
from edgefel.files.write import atomic_file, sha256, write_json
from edgefel.progress import SILENT, Progress
from edgefel.runtime.backends.tensorrt_binding import check_version
from edgefel.runtime.engines import (
    PACKAGES,
    Gpu,
    Messages,
    described,
    explained,
    find_gpu,
    listen,
    load_package,
    start_runtime,
)
from edgefel.runtime.onnx_functions import fused_nodes

__all__ = [
    "PACKAGES",
    "EngineCache",
    "EngineOptions",
    "build_engine",
    "check_targets",
    "find_builder",
    "load_tensorrt",
]


def load_tensorrt(options: EngineOptions | None = None) -> ModuleType:
    """The first of `tensorrt` and `tensorrt_rtx` that can build here what the options ask for; see `find_builder`."""
    return find_builder(options)[0]


def find_builder(options: EngineOptions | None = None) -> tuple[ModuleType, str | None]:
    """`load_tensorrt`, and why it is not the package before it, in one line.

    With one package installed that is taken, and the build says what it cannot do. With both, a package is passed over
    whose builder does not start here, as full TensorRT's without a GPU, or that lacks an option.
    Raises MissingDependencyError without both, EdgefelError with the reason against each where none can build.
    """
    found = {name: load_package(name) for name in PACKAGES}
    modules = {name: module for name, module in found.items() if isinstance(module, ModuleType)}
    reasons = [f"{name} does not load: {reason}" for name, reason in found.items() if isinstance(reason, str)]
    for module in modules.values():
        reason = _inability(module, options or EngineOptions()) if len(modules) > 1 else None
        if reason is None:
            return module, "; ".join(reasons) or None
        reasons.append(reason)
    if not reasons:
        raise MissingDependencyError("tensorrt_rtx", "rtx", "building TensorRT engines")
    raise EdgefelError(f"engine: no TensorRT can build here: {'; '.join(reasons)}")


def _inability(trt: ModuleType, options: EngineOptions) -> str | None:
    """Why this package cannot build what is asked for; None if it can."""
    try:
        _start_builder(trt, options)
    except EdgefelError as error:
        return str(error).removeprefix("engine: ").partition(";")[0]
    return None


def _start_builder(trt: ModuleType, options: EngineOptions) -> None:
    """Raises EdgefelError where no builder starts here, or it does not build for where else the engine may run."""
    check_version(trt)
    try:
        with listen(trt) as (logger, messages):
            builder = create_builder(trt, logger, messages)
            set_compatibility(trt, builder.create_builder_config(), options)
    except EdgefelError:
        raise
    except Exception as error:  # a builder that is half there
        raise EdgefelError(
            f"engine: {trt.__name__} {trt.__version__} cannot build here ({described(error)}); see what "
            "'edgefel doctor' says of it"
        ) from error


def check_targets(trt: ModuleType, options: EngineOptions) -> None:
    """Raises EdgefelError where this TensorRT builds for no other versions or GPUs such as the options name."""
    if options.version_compatible or options.hardware_compatibility or options.compute_capabilities:
        _start_builder(trt, options)


def build_engine(
    onnx_path: Path,
    engine_path: Path,
    options: EngineOptions | None = None,
    progress: Progress = SILENT,
    *,
    cache: EngineCache | None = None,
    reuse: bool = True,
    report_path: Path | None = None,
    kernels: Path | None = None,
) -> dict[str, Any]:
    """Builds `engine_path` from `onnx_path`; the file appears when it is whole.

    cache: where engines and kernel timings are kept; an engine that is there is copied, unless `reuse` is
    False. report_path: a JSON file for the report on all layers (see `tensorrt_layers`), else only its sums
    are kept. kernels: a folder of compiled kernels for the file's fused operators, which otherwise, and where this
    TensorRT cannot take them, are built from their bodies, with a warning.

    Returns the manifest's `builder` entry: package, version, gpu and compute_capability (None: built without
    a GPU), source_sha256 of the ONNX file, options as asked for, batch sizes, the limits that were in force
    (workspace_mb, builder_level), layers of the parsed network, precisions and attentions, loaded (whether
    the engine was loaded on this GPU; None without one), cached, and warnings; with kernels also kernels_sha256
    of those that were given, and plugins, the operators that the engine computes by them.

    Raises MissingDependencyError, or EdgefelError with every node that the parser refuses, for an option that
    this TensorRT does not have, when the build fails even with less memory, or when the disk is full.
    KeyboardInterrupt cancels the build.
    """
    options = options or EngineOptions()
    trt, instead = find_builder(options)
    if not onnx_path.is_file():
        raise EdgefelError(f"{onnx_path}: no such file; give an ONNX file that 'edgefel export' wrote")
    gpu = find_gpu()
    chosen = prepare_plugins(trt, fused_nodes(onnx_path.read_bytes()), kernels, gpu)
    job = _Job(trt, onnx_path, options, gpu, cache, progress, chosen)
    digest = sha256(onnx_path)
    key = engine_key(digest, trt, gpu, options, chosen.digest)
    found, warnings = cache.find(key) if cache is not None and reuse else (None, [])
    if found is not None:
        builder, layers = {**found.builder, "cached": True}, found.layers
        with _writing(engine_path, found.path.stat().st_size), atomic_file(engine_path) as temporary:
            shutil.copyfile(found.path, temporary)
    else:
        attempt, notes = _run(job)
        layers = attempt.facts["layers"]
        builder = {**job.entry(attempt), "source_sha256": digest, "cached": False}
        if chosen.digest is not None:
            builder |= {"kernels_sha256": chosen.digest, "plugins": attempt.facts["plugins"]}
        builder["warnings"] = sorted({*warnings, *notes, *attempt.messages.warnings})
        plan = memoryview(attempt.plan)
        with _writing(engine_path, plan.nbytes), atomic_file(engine_path) as temporary:
            temporary.write_bytes(plan)
        if cache is not None:
            builder["warnings"] += cache.store(key, engine_path, builder, layers)
    builder["warnings"] = [*builder["warnings"], *chosen.notes]
    if instead is not None:
        taken = f"built by {trt.__name__} {trt.__version__}, since {instead}"
        builder["warnings"] = [*builder["warnings"], taken]
    if report_path is not None:
        with _writing(report_path):
            write_json(report_path, {"engine": engine_path.name, **layers})
    return builder


def _run(job: _Job) -> tuple[Attempt, list[str]]:
    """Builds; where that fails with plugins, again from the bodies."""
    try:
        return job.run()
    except EdgefelError as error:
        if not job.plugins.kernels:
            raise
        note = built_from_bodies(job.plugins.kernels, f"with their kernels it fails ({error})")
    attempt, notes = dataclasses.replace(job, plugins=ChosenKernels()).run()
    return attempt, [*notes, note]


@dataclass(frozen=True)
class _Job:
    """One engine to build."""

    trt: ModuleType
    onnx: Path
    options: EngineOptions
    gpu: Gpu | None
    cache: EngineCache | None
    progress: Progress
    plugins: ChosenKernels

    def run(self) -> tuple[Attempt, list[str]]:
        """Builds, with less memory where it runs out, in a thread of its own; Ctrl-C cancels the build and goes on.

        Python handles signals in its main thread, and only between its own instructions: a main thread inside
        TensorRT's build would notice Ctrl-C when the build is over.
        """
        cancelled = threading.Event()
        result: Future[tuple[Attempt, list[str]]] = Future()

        def body() -> None:
            first, what = Effort.of(self.options), self.onnx.name
            try:
                attempt = build_with_less(
                    lambda effort: self._attempt(effort, cancelled), first, what, self.progress
                )
                result.set_result(attempt)
            except BaseException as error:  # it goes on in the caller's thread
                result.set_exception(error)

        threading.Thread(target=body, name="edgefel-engine-build", daemon=True).start()
        try:
            return result.result()
        except BaseException:
            cancelled.set()
            wait([result])
            raise

    def _attempt(self, effort: Effort, cancelled: threading.Event) -> Attempt:
        """One build with everything made anew, so that nothing of a failed one holds memory."""
        trt = f"{self.trt.__name__} {self.trt.__version__}"
        what, fix = f"{self.onnx.name}: {trt} fails to build it", "see what 'edgefel doctor' says of it"
        with listen(self.trt) as (logger, messages), explained(what, messages, fix):
            builder = create_builder(self.trt, logger, messages)
            shape, kept = self.options.input_shape, self.plugins.kernels
            network = parse_network(self.trt, builder, logger, messages, self.onnx, shape, kept)
            config = builder.create_builder_config()
            add_profile(builder, network, config, self.options)
            set_compatibility(self.trt, config, self.options)
            in_force = set_effort(self.trt, config, effort)
            if self.gpu is not None:
                config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
            config.progress_monitor = _monitor(self.trt, self.progress, cancelled)
            timing_file = None if self.cache is None else self.cache.timing_file(self.trt, self.gpu)
            timings, warnings = load_timings(config, timing_file)
            plan = _serialize(builder, network, config, messages)
            if plan is None:
                return Attempt(None, in_force, messages)
            messages.warnings += warnings + save_timings(timings, timing_file)
            layers = network_report(network)
            loaded, layers = self._inspect(logger, messages, plan, layers)
            if loaded is False:
                messages.warnings.append(
                    f"the engine could not be loaded on this GPU{because(messages.errors)}"
                )
            facts = {"layers": layers, "count": network.num_layers, "loaded": loaded, "plugins": list(kept)}
            return Attempt(plan, in_force, messages, facts)

    def _inspect(
        self, logger: Any, messages: Messages, plan: Any, layers: dict[str, Any]
    ) -> tuple[bool | None, dict[str, Any]]:
        """Whether the engine can be loaded here, and its layers as far as it tells them."""
        if self.gpu is None:
            return None, layers
        engine: Any = None
        with suppress(EdgefelError), explained("load", messages, ""):
            runtime = start_runtime(self.trt, logger, messages)
            if self.options.version_compatible:
                # such an engine brings a runtime along, this one is our own
                runtime.engine_host_code_allowed = True
            engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            return False, layers
        # the report is extra: an inspector that changes its format must not cost the engine
        with suppress(AttributeError, TypeError, ValueError, RuntimeError):
            inspector, kind = engine.create_engine_inspector(), self.trt.LayerInformationFormat.JSON
            layers = engine_report(layers, str(inspector.get_engine_information(kind)))
        return True, layers

    def entry(self, attempt: Attempt) -> dict[str, Any]:
        """What the manifest keeps of the build."""
        options, effort = self.options, attempt.effort
        return {
            "package": self.trt.__name__,
            "version": str(self.trt.__version__),
            "gpu": None if self.gpu is None else self.gpu.name,
            "compute_capability": None if self.gpu is None else self.gpu.capability_text,
            "options": options.to_dict(),
            "batch": {"min": options.min_batch, "opt": options.opt_batch, "max": options.max_batch},
            "workspace_mb": None if effort.workspace is None else effort.workspace // MIB,
            "builder_level": effort.level,
            "layers": attempt.facts["count"],
            "layer_report": summarize_layers(attempt.facts["layers"]),
            "loaded": attempt.facts["loaded"],
        }


def _serialize(builder: Any, network: Any, config: Any, messages: Any) -> Any:
    try:
        return builder.build_serialized_network(network, config)
    except MemoryError:
        messages.errors.append("out of memory on the host")
        return None


@contextmanager
def _writing(path: Path, size: int = 0) -> Iterator[None]:
    """Names the file, and its size in bytes where that is known, if it cannot be written."""
    try:
        yield
    except OSError as error:
        # without its folder: a bundle's engine is written in a hidden one first, which is gone when this is read
        needed = f" ({size / 1e6:.0f} MB)" if size else ""
        raise EdgefelError(
            f"{path.name}: cannot be written{needed}: {error.strerror or error}; free disk space or choose another "
            "folder"
        ) from error


def _monitor(trt: ModuleType, progress: Progress, cancelled: threading.Event) -> Any:
    """An IProgressMonitor that advances `progress` and cancels the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        """Passes the outermost phase on: TensorRT nests phases, and calls from its own threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer: str | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outer = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outer:
                progress.advance()
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.outer:
                self.outer = None

    return Monitor()
