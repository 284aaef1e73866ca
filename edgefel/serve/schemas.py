"""JSON schemas of the answers, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
POINT: Schema = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}


def or_null(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(about: str, /, **properties: Schema) -> Schema:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def said(schema: Schema, description: str) -> Schema:
    """The schema with a description."""
    return schema | {"description": description}


def ref(name: str) -> Schema:
    """A reference to a schema of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(labels: Sequence[str]) -> dict[str, Schema]:
    """All schemas by name. labels: the classes of the network."""
    shares = {
        "type": "object",
        "properties": dict.fromkeys(labels, SHARE),
        "required": list(labels),
        "additionalProperties": False,
    }
    name = {"type": "string", "enum": list(labels)}
    stages = {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0},
        "description": "Milliseconds by stage. Those of the network are of all images that shared the call.",
    }
    parts = ("size", "pose", "contrast", "sharpness", "noise", "exposure")
    side: Schema = {"type": "integer"}
    return {
        "Problem": {
            "type": "object",
            "description": "An error, as RFC 9457 describes.",
            "properties": {
                "type": TEXT,
                "title": TEXT,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": said(TEXT, "What is wrong, for people."),
                "reason": said(TEXT, "What is wrong, for programs, such as unreadable-image."),
                "image": said(COUNT, "Number of the image in the request, from 0."),
            },
            "required": ["type", "title", "status", "detail", "reason"],
            "additionalProperties": False,
        },
        "Box": record(
            "A square in pixels, which may reach beyond the image.",
            x=side,
            y=side,
            width=COUNT,
            height=COUNT,
        ),
        "Quality": record(
            "How well the face can be read, in each respect.", **{part: or_null(SHARE) for part in parts}
        ),
        "Shares": said(shares, "A probability for each label."),
        "Face": record(
            "A face with its predictions.",
            box=ref("Box"),
            eyes=said(
                or_null({"type": "array", "items": POINT, "minItems": 2, "maxItems": 2}),
                "Both eyes as [x, y], the one on the image's left first.",
            ),
            detection_score=said(or_null(NUMBER), "On the detector's own scale."),
            label=said(
                {"type": "string", "enum": [*labels, "unsure"]},
                "Most probable label; unsure if the quality is low.",
            ),
            top_label=said(name, "Most probable label."),
            probability=said(SHARE, "Of top_label."),
            confidence=said(NUMBER, "1 - normalised entropy of the probabilities."),
            quality=or_null(SHARE),
            quality_parts=or_null(ref("Quality")),
            primary_label=said(name, "Most probable label before the reliability correction."),
            probabilities=said(ref("Shares"), "After the reliability correction."),
            primary=said(ref("Shares"), "Before the reliability correction."),
        ),
        "Image": record(
            "An image with its faces, the largest first.",
            source=said(TEXT, "The file name that the client gave, or body."),
            width=COUNT,
            height=COUNT,
            stages_ms=stages,
            faces={"type": "array", "items": ref("Face")},
        ),
        "Faces": record("An answer.", images={"type": "array", "items": ref("Image"), "minItems": 1}),
        "Model": record(
            "The network that labels, and the limits of this server.",
            edgefel=said(TEXT, "Version."),
            name=TEXT,
            labels={"type": "array", "items": TEXT},
            file=TEXT,
            precision=TEXT,
            backend=TEXT,
            threads=COUNT,
            detector=TEXT,
            min_quality=said(SHARE, "Of the crop; a face below it is unsure."),
            min_confidence=said(SHARE, "Of the prediction; a face below it is unsure."),
            smoothing=said(NUMBER, "Time constant of streams, in seconds."),
            token_needed={"type": "boolean"},
            limits=record(
                "",
                body_bytes=COUNT,
                frame_bytes=COUNT,
                pixels=COUNT,
                images=COUNT,
                requests_per_second=NUMBER,
                streams=COUNT,
            ),
            live=or_null(
                record("The device's own source.", source=TEXT, description=TEXT, problem=or_null(TEXT))
            ),
        ),
        "Status": record("", status=TEXT),
    }
