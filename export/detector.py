"""`edgefel detector quantize`: a file of YuNet in FP16 or INT8 beside the published one, judged on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgefel.calib.placement import TENSORRT
from edgefel.data.images import UnreadableImageError, find_images, read_rgb
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.export.parity.detector import DetectorLimits, compare_detectors
from edgefel.export.precision.detector import METHOD, detector_graph, half_detector, int8_detector
from edgefel.export.record import tool_versions
from edgefel.files.read import read_regular, reading
from edgefel.files.write import atomic_file, sha256, write_json
from edgefel.progress import SILENT, Progress
from edgefel.runtime.searching import shrink
from edgefel.runtime.yunet import Rows, YuNetDetector
from edgefel.runtime.yunet_backend import variant_path, variant_record
from edgefel.text import counted

IMAGES = 128  # most images to calibrate on, and most to compare on


def quantize_detector(
    model: Path,
    folder: Path,
    precision: str,
    *,
    images: int = IMAGES,
    force: bool = False,
    limits: DetectorLimits | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Writes `variant_path(model, precision)` and what is known of it beside it; returns that.

    model: YuNet's ONNX file. folder: of photographs; every second one calibrates, the others are compared on, `images`
    of each at most. precision: fp16 or int8+fp16. force: also write a file that falls short of the limits.
    Raises EdgefelError for a folder without images, a file that is not YuNet's, and a file that falls short: then
    nothing is written.
    """
    limits = limits or DetectorLimits()
    with reading(model):
        graph = detector_graph(read_regular(model))
    files = find_images(folder).files
    if len(files) < 2:
        raise EdgefelError(
            f"{folder}: {counted(len(files), 'image')} in it; give a folder of photographs with faces"
        )
    calibrating, judging = (spread(files[start::2], images) for start in (0, 1))
    skipped: list[str] = []
    record: dict[str, Any] = {"precision": precision, "source_sha256": sha256(model)}
    if precision == "fp16":
        made = half_detector(graph)
    else:
        progress.start("calibrate INT8", len(calibrating))
        made, placement = int8_detector(graph, _readable(calibrating, skipped), progress)
        record["calibration"] = {"images": len(calibrating) - len(skipped), "method": METHOD}
        record |= {
            "policy": TENSORRT.name,
            "int8_nodes": len(placement.nodes),
            "float_nodes": placement.kept_float,
        }
    path = variant_path(model, precision)
    with atomic_file(path) as temporary:
        temporary.write_bytes(made.SerializeToString(deterministic=True))
        parity = _parity(model, temporary, _readable(judging, skipped, progress), limits)
        if parity["verdict"] == "fail" and not force:
            raise EdgefelError(
                f"{path.name}: {'; '.join(parity['reasons'])}; nothing is written without --force"
            )
        variant_record(path).unlink(missing_ok=True)  # a file without its record is not used
        record |= {"sha256": sha256(temporary), "bytes": temporary.stat().st_size}
    record |= {"parity": parity, "skipped": skipped, "tools": tool_versions()}
    write_json(variant_record(path), record)
    return record


def spread(files: Sequence[Path], most: int) -> Sequence[Path]:
    """At most so many of the files, evenly over all."""
    return files if len(files) <= most else [files[i * len(files) // most] for i in range(most)]


def _parity(model: Path, other: Path, images: Iterator[Image], limits: DetectorLimits) -> dict[str, Any]:
    """Both on the CPU, by ONNX Runtime: what an engine makes of the file can differ."""
    reference, candidate = (YuNetDetector(path, backend="onnxruntime") for path in (model, other))

    def rows(detector: YuNetDetector, image: Image) -> Rows:
        return detector.rows(shrink(image)[0])

    found = compare_detectors(
        lambda image: rows(reference, image), lambda image: rows(candidate, image), images
    )
    return found.to_dict(limits)


def _readable(files: Sequence[Path], skipped: list[str], progress: Progress | None = None) -> Iterator[Image]:
    """The images that can be read; names of the others go to `skipped`."""
    if progress is not None:
        progress.start("compare with FP32", len(files))
    for file in files:
        try:
            yield read_rgb(file)
        except UnreadableImageError:
            skipped.append(file.name)
        if progress is not None:
            progress.advance()
