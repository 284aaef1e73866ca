"""The table of labels: its columns, and a part of it as the bytes of a Parquet file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgefel.data.readers.parquet import pyarrow
from edgefel.runtime.quality import Quality
from edgefel.runtime.results import Faces, flat_row

EYES = tuple(f"{side}_eye_{axis}" for side in ("left", "right") for axis in "xy")


@dataclass
class Counts:
    """What a part, or all, came to. unsure: faces that are not sure, by the least part of their quality."""

    images: int = 0
    faces: int = 0
    without_face: int = 0
    unreadable: int = 0
    lost_frames: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    misframed: Counter[str] = field(default_factory=Counter)

    def add(self, faces: Faces) -> None:
        """Counts an image."""
        self.images += 1
        self.faces += len(faces)
        self.unreadable += faces.error is not None
        self.without_face += not faces and faces.error is None
        self.labels.update(face.label for face in faces)
        self.unsure.update(face.quality_parts.worst for face in faces if face.quality_parts and not face.sure)
        self.misframed.update(face.misframed for face in faces if face.misframed)

    def merge(self, other: Counts) -> None:
        """Adds what another part came to."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; names in alphabetical order."""
        values = vars(self)
        return {
            name: dict(sorted(value.items())) if isinstance(value, dict) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """The inverse of `to_dict`. Raises TypeError for other names."""
        kept: dict[str, Any] = {}
        for name, value in values.items():
            kept[name] = Counter(value) if isinstance(value, dict) else value
        return cls(**kept)


def schema(labels: Sequence[str]) -> Any:
    """The columns, as a pyarrow schema: `flat_row`'s, and `face` and `error`.

    There is a row for each face. An image without a face, and one that could not be read, has one row whose `face` is
    null; the latter says why in `error`.
    """
    arrow = pyarrow()
    text, number, real = arrow.string(), arrow.int32(), arrow.float32()
    columns = {"source": text, "frame": arrow.int64(), "time": arrow.float64(), "face": number, "error": text}
    columns |= {"label": text, "top_label": text, "probability": real, "confidence": real, "quality": real}
    columns |= {"primary_label": text, "misframed": text, "detection_score": real}
    columns |= dict.fromkeys(("x", "y", "width", "height"), number)
    columns |= dict.fromkeys(EYES, real)
    columns |= dict.fromkeys((f"quality_{part.name}" for part in fields(Quality)), real)
    columns |= dict.fromkeys((f"p_{label}" for label in labels), real)
    columns |= dict.fromkeys((f"primary_{label}" for label in labels), real)
    return arrow.schema(columns)


def rows_of(faces: Faces) -> list[dict[str, Any]]:
    """The rows of one image."""
    place = {"source": _text(faces.source or ""), "frame": faces.frame, "time": faces.time}
    if not faces:
        return [place | {"error": None if faces.error is None else _text(_why(faces.error))}]
    return [
        flat_row(place | {"face": number, "misframed": face.misframed}, face)
        for number, face in enumerate(faces)
    ]


def as_parquet(rows: Sequence[dict[str, Any]], columns: Any) -> bytes:
    """The bytes of a Parquet file, the same for the same rows and version of pyarrow."""
    arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(rows, schema=columns), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def errors_of(file: Path) -> Iterator[tuple[str, str]]:
    """The images of a part that could not be read: `source` and `error` of their rows."""
    table = pyarrow("pyarrow.parquet").read_table(file, columns=["source", "error"])
    return ((row["source"], row["error"]) for row in table.to_pylist() if row["error"] is not None)


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", error))


def _text(name: str) -> str:
    """File names need not be UTF-8, and Parquet's text must be."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
