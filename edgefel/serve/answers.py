"""Labelled faces as JSON: the fields of `edgefel predict --json` and `edgefel run --json`, and the eyes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream.frames import FrameResult, TrackedFace
from edgefel.serve.engine import Answer


def face_dict(face: LabelledFace | TrackedFace) -> dict[str, Any]:
    """One face. eyes: [[x, y], [x, y]] in pixels, the one on the image's left first; null where they are not known."""
    eyes = None if face.eyes is None else [[round(x, 1), round(y, 1)] for x, y in face.eyes]
    return face.to_dict() | {"eyes": eyes}


def image_dict(source: str, answer: Answer) -> dict[str, Any]:
    """One image of `POST /v1/faces`."""
    width, height = answer.size
    return {
        "source": source,
        "width": width,
        "height": height,
        "stages_ms": stages_dict(answer.stages),
        "faces": [face_dict(face) for face in answer.faces],
    }


def frame_dict(number: int, time: float, dropped: int, answer: Answer) -> dict[str, Any]:
    """One frame of `/v1/stream`. number: of the frame among those received, from 0. dropped: frames so far that a newer
    one replaced."""
    width, height = answer.size
    return {
        "frame": number,
        "time": round(time, 4),
        "latency_ms": round(1e3 * answer.stages["total"], 2),
        "stages_ms": stages_dict(answer.stages),
        "dropped": dropped,
        "cut": answer.cut,
        "width": width,
        "height": height,
        "faces": [face_dict(face) for face in answer.faces],
    }


def live_dict(result: FrameResult, stages: Mapping[str, float], dropped: int) -> dict[str, Any]:
    """One frame of the device's own source, in the form of `frame_dict`. stages: mean seconds of the last frames."""
    height, width = result.frame.image.shape[:2]
    return {
        "frame": result.frame.index,
        "time": round(result.frame.time, 4),
        "latency_ms": round(1e3 * result.latency, 2),
        "stages_ms": stages_dict(stages),
        "dropped": dropped,
        "cut": result.frame.cut,
        "width": width,
        "height": height,
        "faces": [face_dict(face) for face in result.faces],
    }


def stages_dict(stages: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by stage."""
    return {name: round(1e3 * max(0.0, seconds), 2) for name, seconds in stages.items()}
