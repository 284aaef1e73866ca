"""A TensorRT engine of YuNet's ONNX file, for one size of image."""

from __future__ import annotations

from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.cache import EngineCache
from edgefel.export.tensorrt.engine import build_engine
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.files.write import write_json
from edgefel.progress import SILENT, Progress
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.manifest import BundleFile, describe_file
from edgefel.runtime.yunet_backend import engine_path, record_path


def build_detector_engine(
    model: Path,
    size: tuple[int, int],
    cache: EngineCache | None = None,
    progress: Progress = SILENT,
) -> BundleFile:
    """Builds the engine beside the ONNX file, and writes what is known of it.

    size: width and height of its input, rounded up to multiples of 32; images are shrunk to it. As in the file, all of
    it is FP32. Raises EdgefelError for a missing file, and what `build_engine` raises.
    """
    if not model.is_file():
        raise EdgefelError(f"{model}: no such file; run 'edgefel detector get'")
    refuse_external_data(model)
    width, height = (-(-side // 32) * 32 for side in size)
    options = EngineOptions(max_batch=1, input_shape=(1, 3, height, width))
    record_path(model).unlink(missing_ok=True)  # an engine without its record is not used
    builder = build_engine(model, engine_path(model), options, progress, cache=cache)
    file = describe_file(engine_path(model), kind="engine", precision="fp32", builder=builder)
    write_json(record_path(model), file.to_dict())
    return file
