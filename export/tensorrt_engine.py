"""TensorRT engines from ONNX files: one path for `tensorrt` 10.3 and later and for `tensorrt_rtx`.

Precision lives in the ONNX graph (FP16 types, Q/DQ nodes); the network is strongly typed, so the builder
never changes it. TensorRT for RTX builds without a GPU; full TensorRT builds for the GPU it runs on.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.export.progress import SILENT, Progress
from edgefel.files import atomic_file
from edgefel.runtime.manifest import INPUT_NAME

PACKAGES = ("tensorrt", "tensorrt_rtx")
_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class EngineOptions:
    """Batch sizes of the optimization profile: 1 to `max_batch`, fastest at `opt_batch`.

    builder_level: TensorRT's optimization level, None for its default.
    """

    opt_batch: int = 1
    max_batch: int = 8
    builder_level: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.opt_batch <= self.max_batch:
            raise EdgefelError(
                f"engine: batch sizes must satisfy 1 <= opt <= max, got opt {self.opt_batch}, "
                f"max {self.max_batch}"
            )


def load_tensorrt() -> ModuleType:
    """`tensorrt` where it is installed, else `tensorrt_rtx`; raises MissingDependencyError without both."""
    for package in PACKAGES:
        try:
            return importlib.import_module(package)
        except ImportError:
            continue
    raise MissingDependencyError("tensorrt_rtx", "rtx", "building TensorRT engines")


def build_engine(
    onnx_path: Path, engine_path: Path, options: EngineOptions | None = None, progress: Progress = SILENT
) -> dict[str, Any]:
    """Builds `engine_path` (written atomically) from `onnx_path`.

    Returns the manifest's `builder` entry: package, version, gpu (None: built without one), batch sizes,
    layers of the parsed network, and the warnings TensorRT gave.

    Raises MissingDependencyError, or EdgefelError with every node that the parser refuses, or with
    TensorRT's own messages when the build fails.
    """
    options = options or EngineOptions()
    trt = load_tensorrt()
    logger = _make_logger(trt)
    builder = _create(trt, logger)
    network = builder.create_network(_strongly_typed(trt))
    _parse(trt, network, logger, onnx_path)
    config = builder.create_builder_config()
    _add_profile(builder, network, config, options)
    if options.builder_level is not None:
        config.builder_optimization_level = options.builder_level
    monitor = _make_monitor(trt, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgefelError(
            f"{onnx_path.name}: {trt.__name__} cannot build an engine{_because(logger.errors)}"
        )
    with atomic_file(engine_path) as temporary, temporary.open("wb") as stream:
        stream.write(memoryview(plan))
    return {
        "package": trt.__name__,
        "version": trt.__version__,
        "gpu": _gpu_name(),
        "batch": {"min": 1, "opt": options.opt_batch, "max": options.max_batch},
        "layers": network.num_layers,
        "warnings": sorted(set(logger.warnings)),
    }


def _strongly_typed(trt: ModuleType) -> int:
    # newer versions type every network strongly and may drop the flag
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _create(trt: ModuleType, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        # full TensorRT's Builder cannot be made without a CUDA device
        raise EdgefelError(
            f"{trt.__name__} {trt.__version__} cannot start here{_because(logger.errors) or f': {error}'}; "
            "full TensorRT needs a GPU, 'pip install edgefel[rtx]' brings a TensorRT that builds without one"
        ) from error


def _parse(trt: ModuleType, network: Any, logger: Any, path: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(path.read_bytes()):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    listed = "; ".join(
        f"node '{error.node_name()}' ({error.node_operator()}): {' '.join(error.desc().split())}"
        for error in errors[:_SHOWN_ERRORS]
    )
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    raise EdgefelError(
        f"{path.name}: {trt.__name__} {trt.__version__} cannot parse it: "
        f"{listed or _because(logger.errors)}{more}; export without --engine, or use a TensorRT that "
        "knows these operators"
    )


def _add_profile(builder: Any, network: Any, config: Any, options: EngineOptions) -> None:
    shape = tuple(network.get_input(0).shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, (1, *shape), (options.opt_batch, *shape), (options.max_batch, *shape))
    config.add_optimization_profile(profile)


def _make_logger(trt: ModuleType) -> Any:
    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        """Keeps what TensorRT says instead of printing it."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message.strip())
            elif severity in _error_levels(trt) and not _is_noise(message):
                self.errors.append(message.strip())

    return Collector()


def _error_levels(trt: ModuleType) -> tuple[Any, Any]:
    return trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR


def _is_noise(message: str) -> bool:
    # TensorRT for RTX reports this remark as an internal error on every start
    return "Thread context has not been set" in message


def _make_monitor(trt: ModuleType, progress: Progress) -> Any:
    if not hasattr(trt, "IProgressMonitor"):
        return None

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
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.outer:
                self.outer = None

    return Monitor()


def _because(errors: list[str]) -> str:
    return f": {'; '.join(' '.join(error.split()) for error in errors[:_SHOWN_ERRORS])}" if errors else ""


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
