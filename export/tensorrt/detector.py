"""A TensorRT engine of YuNet's ONNX file, for one size of image."""

from __future__ import annotations

from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.cache import EngineCache
from edgefel.export.tensorrt.engine import build_engine
from edgefel.export.tensorrt.options import EngineOptions
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import sha256, write_json
from edgefel.progress import SILENT, Progress
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.manifest import BundleFile, describe_file
from edgefel.runtime.yunet_backend import engine_path, record_path, variant_path, variant_record


def build_detector_engine(
    model: Path,
    size: tuple[int, int],
    cache: EngineCache | None = None,
    progress: Progress = SILENT,
    precision: str = "fp32",
) -> BundleFile:
    """Builds the engine beside the ONNX file, and writes what is known of it.

    size: width and height of its input, rounded up to multiples of 32; images are shrunk to it. precision: of the file
    to build from, fp32 or what `edgefel detector quantize` has written; the engine's is the file's. There is one
    engine, the last that was built. Raises EdgefelError for a missing or changed file, and what `build_engine` raises.
    """
    if not model.is_file():
        raise EdgefelError(f"{model}: no such file; run 'edgefel detector get'")
    source = variant_path(model, precision)
    warnings = [] if precision == "fp32" else _check_variant(model, source, precision)
    refuse_external_data(source)
    width, height = (-(-side // 32) * 32 for side in size)
    options = EngineOptions(max_batch=1, input_shape=(1, 3, height, width))
    # until its record is written the engine is not used, since it differs from the one that the record has
    builder = build_engine(source, engine_path(model), options, progress, cache=cache)
    builder["warnings"] = [*builder["warnings"], *warnings]
    file = describe_file(engine_path(model), kind="engine", precision=precision, builder=builder)
    write_json(record_path(model), file.to_dict())
    return file


def _check_variant(model: Path, source: Path, precision: str) -> list[str]:
    """What to warn of. Raises EdgefelError if the file is not there, or was made from another or changed."""
    make = f"make it with 'edgefel detector quantize --precision {precision}'"
    record = variant_record(source)
    if not (source.is_file() and record.is_file()):
        raise EdgefelError(f"{source}: no such file, or no {record.name} beside it; {make}")
    found = read_json(record)
    parity = {"verdict": str, "reasons": [str]}
    check_shape(found, {"sha256": str, "source_sha256": str, "parity": parity}, str(record))
    if found["sha256"] != sha256(source) or found["source_sha256"] != sha256(model):
        raise EdgefelError(f"{source}: was changed, or made from another file than {model.name}; {make}")
    if found["parity"]["verdict"] != "fail":
        return []
    return [f"{source.name}: {reason}" for reason in found["parity"]["reasons"]]
