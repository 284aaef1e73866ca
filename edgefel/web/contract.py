"""What the page is told of the network: contract.json, with an image and what the runtime finds in it.

Each page labels that image when it opens. It uses a GPU, and shows results at all, only where it agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgefel import __version__
from edgefel.data.preprocessing import Image, Tensor
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.detector_file import is_published
from edgefel.runtime.labelling import check_labelling, find_faces
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.runtime.quality import DEFAULT_LEAST
from edgefel.runtime.session import Session
from edgefel.runtime.stream.pipeline import StreamOptions
from edgefel.runtime.yunet import YuNetDetector
from edgefel.runtime.yunet_backend import open_yunet
from edgefel.web.onnxruntime_web import VERSION

CONTRACT_NAME, IMAGE_NAME = "contract.json", "check.png"
NETWORK_NAME, DETECTOR_NAME = "models/network.onnx", "models/detector.onnx"
# Most that a probability may be off by. ONNX Runtime rounds INT8 in another way on each kind of processor.
TOLERANCES = {"fp32": 1e-3, "int8": 0.1}


def make_contract(session: Session, detector: Path) -> tuple[dict[str, Any], Image]:
    """The document, plain JSON values, and the image as uint8 RGB [H, W, 3]. detector: YuNet's file.

    Raises EdgefelError for a bundle without the output `primary`, and for a detector that finds no face in the image.
    """
    check_labelling(session)
    manifest, file = session.manifest, session.file
    image = check_image()
    findings = _findings(image, session, detector)
    document = {
        "edgefel": __version__,
        "onnxruntime": VERSION,
        "name": manifest.folder.resolve().name,
        "labels": list(manifest.labels),
        "preprocessing": manifest.preprocessing.to_dict(),
        "framing": None if manifest.framing is None else manifest.framing.to_dict(),
        "input": manifest.input_type,
        "outputs": [name for name in manifest.outputs if name != "logits"],
        "min_quality": DEFAULT_LEAST,
        "smoothing": StreamOptions().smoothing,
        "webgpu": uses_webgpu(file.precision),
        "network": {
            "file": NETWORK_NAME,
            "precision": file.precision,
            "tolerance": TOLERANCES[file.precision],
        },
        "detector": {
            "file": DETECTOR_NAME,
            "name": "YuNet" if is_published(detector) else detector.name,
            "sides": _fixed_sides(detector),
        },
        "check": {"image": IMAGE_NAME} | findings,
    }
    return document, image


def uses_webgpu(precision: str) -> bool:
    """Whether a GPU is worth trying: WebGPU has no arithmetic for INT8."""
    return precision == "fp32"


def check_image() -> Image:
    """Two synthetic people, uint8 RGB [360, 640, 3]; always the same."""
    options = VideoOptions(seconds=1.0, fps=1.0, size=(640, 360), faces=2, changes=0)
    return SyntheticVideo(options).frame(0)


def _fixed_sides(detector: Path) -> list[int] | None:
    sides = open_yunet(detector, "onnxruntime").sides
    return None if sides is None else list(sides)


def _findings(image: Image, session: Session, detector: Path) -> dict[str, Any]:
    """found: the detector's boxes. faces: those that are labelled, with their distributions."""
    find = YuNetDetector(detector, backend="onnxruntime", threads=1)
    faces = find_faces(image, find, session)
    if not faces.boxes:
        raise EdgefelError(f"{detector}: finds no face in a synthetic image; is it YuNet's file?")
    probabilities, primary = reference(session, faces.crops)
    rows = zip(faces.boxes, probabilities.tolist(), primary.tolist(), strict=True)
    return {
        "found": [box_dict(box) for box in find(image)],
        "faces": [
            {"box": box_dict(box), "probabilities": shares, "primary": before} for box, shares, before in rows
        ],
    }


def box_dict(box: FaceBox) -> dict[str, Any]:
    """A box as the page's scripts have it."""
    return {
        "x": box.x,
        "y": box.y,
        "side": box.side,
        "score": box.score,
        "eyes": box.eyes and [list(point) for point in box.eyes],
        "landmarks": box.landmarks and [list(point) for point in box.landmarks],
    }


def reference(session: Session, crops: Sequence[Image]) -> tuple[Tensor, Tensor]:
    """Probabilities and primary distributions [N, C] of crops, by the session's file as it is written.

    Without ONNX Runtime's fusions, which round INT8 in another way on each kind of processor.
    """
    import onnxruntime

    manifest = session.manifest
    prepare = (
        manifest.preprocessing.pixel_batch if manifest.input_type == "uint8" else manifest.preprocessing.batch
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    path = str(manifest.folder / session.file.name)
    plain = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    probabilities, primary = plain.run(["probabilities", "primary"], {INPUT_NAME: prepare(list(crops))})
    return np.asarray(probabilities, np.float32), np.asarray(primary, np.float32)
