"""WebDataset shards with tiny images."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgefel.data.labels import EXPRESSIONS_7

# an order of the set's own, as in RAF-DB
CLASSES = ("surprise", "fear", "disgust", "happy", "sadness", "anger", "neutral")
CANONICAL = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")


class Shards(NamedTuple):
    """label and split by key; the images are of one grey level, the number of the sample."""

    root: Path
    samples: dict[str, tuple[str, str]]


def image(level: int, kind: str = "png") -> bytes:
    """Of one grey level."""
    return cv2.imencode(f".{kind}", np.full((8, 8, 3), level, np.uint8))[1].tobytes()


IMAGE = ("k.png", image(0))


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Members in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_webdataset(root: Path) -> Shards:
    """Numbers by classes.txt (with BOM, CRLF, blank last line), names, and JSON; odd members between them."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_bytes(("\ufeff" + "\r\n".join(CLASSES) + "\r\n\r\n").encode())
    numbers = [
        (f"set.v1/{n:04d}.{kind}", data)
        for n in range(7)
        for kind, data in (
            ("PNG", image(n)),
            ("seg.png", b"a mask, not the image"),
            ("cls", f"{n}\n".encode()),
            ("pickle", b"never opened"),
        )
    ]
    write_tar(root / "train-000000.tar", [("README.txt", b"x"), *numbers])
    write_tar(root / "train-000001.tar", [("a.webp", image(7, "webp")), ("a.cls", b"Angry")])
    long_name = "deep/" * 30 + "b"
    said = {"label": "sad", "split": "test", "group": "clip 1"}
    write_tar(
        root / "val-000000.tar",
        [
            (f"{long_name}.json", json.dumps(said).encode()),
            (f"{long_name}.png", image(8)),
            ("c.jpeg", image(9, "jpg")),
            ("c.cls", b"0"),
            ("c.json", b'{"label": 0, "subject": 7}'),
        ],
    )
    samples = {f"set.v1/{n:04d}": (CANONICAL[n], "train") for n in range(7)}
    samples |= {"a": ("anger", "train"), long_name: ("sadness", "test"), "c": ("surprise", "val")}
    return Shards(root, samples)


def soft_and_box(level: int) -> bytes:
    """The JSON of a sample with everything."""
    soft = {name: 0.4 if name == "fear" else 0.1 for name in EXPRESSIONS_7}
    return json.dumps({"label": "fear", "soft": soft, "box": [level, 1, 3, 4]}).encode()
