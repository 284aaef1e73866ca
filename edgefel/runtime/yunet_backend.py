"""Which backend runs YuNet's file: a TensorRT engine beside it, or the ONNX file itself. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import sha256
from edgefel.runtime.backends.base import BACKENDS, Backend, ModelFile, OnnxBackend, backend_entry
from edgefel.runtime.engines import described
from edgefel.runtime.manifest import BundleFile, describe_file

AUTO = "auto"
INPUT = "input"
STRIDES = (8, 16, 32)
# what each output has of a cell
WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
# For inputs of changing size ONNX Runtime is faster than OpenVINO (bench/experiments/detectors.py)
_ORDER = ("tensorrt", "onnxruntime-cuda", "onnxruntime", "openvino")


class _UnavailableError(EdgefelError):
    """The backend is not here, whatever the file is."""


@dataclass(frozen=True)
class OpenedYuNet:
    """A backend with the network. sides: height and width of the only input it takes, None if it takes any.
    passed_over: the backends before it, each with the reason."""

    backend: str
    runner: Backend
    sides: tuple[int, int] | None
    passed_over: tuple[str, ...] = ()


def open_yunet(path: Path, backend: str = AUTO, threads: int = 1) -> OpenedYuNet:
    """The named backend with the network, or the first that runs it here; TensorRT where there is an engine.

    Raises EdgefelError for an unknown backend, one that cannot run it here, or a file that is not YuNet.
    """
    reasons: list[str] = []
    for name in _ORDER if backend == AUTO else (backend,):
        engine = backend_entry(name).kind == "engine"
        if engine and backend == AUTO and not engine_path(path).is_file():
            continue
        try:
            opened = _engine(path, threads) if engine else _onnx(path, name, threads)
        except Exception as error:  # a package that is broken raises anything; the next backend may work
            is_known = isinstance(error, EdgefelError)
            said = str(error).removeprefix(f"{path}: ") if is_known else f"it fails here ({described(error)})"
            # it reads whatever is YuNet: the others would only say the same, and OpenVINO prints more
            if (
                backend == AUTO
                and name == "onnxruntime"
                and is_known
                and not isinstance(error, _UnavailableError)
            ):
                raise unusable(path, said) from None
            reasons.append(f"{name}: {said}")
            continue
        return OpenedYuNet(name, *opened, tuple(reasons))
    if backend != AUTO:
        raise EdgefelError(f"{path}: no YuNet in {'; '.join(reasons)}")
    raise unusable(path, "; ".join(reasons))


def unusable(path: Path, reason: str) -> EdgefelError:
    """The error of a file that is not YuNet, or cannot be run."""
    return EdgefelError(f"{path}: edgefel cannot run it as YuNet ({reason}); give another file")


def engine_path(model: Path) -> Path:
    """Where the TensorRT engine of an ONNX file is looked for, beside it."""
    return model.with_suffix(".engine")


def record_path(model: Path) -> Path:
    """The JSON document with what is known of the engine: `BundleFile.to_dict`."""
    return model.with_suffix(".engine.json")


def variant_path(model: Path, precision: str) -> Path:
    """Where `edgefel detector quantize` writes the ONNX file in another precision; FP32 is the file itself."""
    return model if precision == "fp32" else model.with_suffix(f".{precision}.onnx")


def variant_record(variant: Path) -> Path:
    """The JSON document with what is known of such a file."""
    return variant.with_suffix(".json")


def output_shapes(sides: tuple[int, int]) -> Mapping[str, tuple[int, int]]:
    """Of an input of [H, W], each without the batch."""
    cells = {stride: (sides[0] // stride) * (sides[1] // stride) for stride in STRIDES}
    return {
        f"{name}_{stride}": (cells[stride], width) for name, width in WIDTHS.items() for stride in STRIDES
    }


def _onnx(path: Path, name: str, threads: int) -> tuple[Backend, tuple[int, int] | None]:
    file = describe_file(path, kind="onnx", precision="fp32")
    loaded = BACKENDS[name].load()
    if (reason := loaded.unavailable_reason(file)) is not None:
        raise _UnavailableError(reason)
    runner = loaded.open(ModelFile(path, file, (3,), np.dtype(np.float32), {}, INPUT), threads=threads)
    assert isinstance(runner, OnnxBackend)
    needed = output_shapes((32, 32)).keys()
    if missing := needed - set(runner.output_names):
        raise EdgefelError(f"it has no output {min(missing)}")
    _, _, height, width = runner.input_shape
    return runner, None if height is None or width is None else (height, width)


def _engine(model: Path, threads: int) -> tuple[Backend, tuple[int, int]]:
    """The engine beside the file. What CI has no GPU for: only its building and a stand-in have been tried."""
    path, record = engine_path(model), record_path(model)
    build = "build it here with 'edgefel detector engine'"
    if not (path.is_file() and record.is_file()):
        raise EdgefelError(f"{path}: there is no engine; {build}")
    found = read_json(record)
    builder = {"source_sha256": str, "options": {"input_shape": [int]}}
    check_shape(found, {"precision": str, "sha256": str, "bytes": int, "builder": builder}, str(record))
    builder = found["builder"]
    file = BundleFile(
        path.name, "engine", found["precision"], found["sha256"], found["bytes"], builder=builder
    )
    source = variant_path(model, file.precision)
    if (reason := BACKENDS["tensorrt"].load().unavailable_reason(file)) is not None:
        raise EdgefelError(reason)
    shape = builder["options"]["input_shape"]
    is_same = source.is_file() and sha256(path) == file.sha256 and builder["source_sha256"] == sha256(source)
    if not is_same or len(shape) != 4:
        raise EdgefelError(f"{path}: was changed, or built from another ONNX file; {build}")
    _, channels, height, width = shape
    shapes = output_shapes((height, width))
    engine = ModelFile(path, file, (channels, height, width), np.dtype(np.float32), shapes, INPUT)
    return BACKENDS["tensorrt"].load().open(engine, threads=threads), (height, width)
