"""Small sets of images in every form that `edgefel label` takes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
from tiny_bundle import write_bundle

from edgefel.runtime.bulk.plan import plan_labelling
from edgefel.runtime.bulk.run import label
from edgefel.runtime.bulk.work import Network
from edgefel.tasks.threads import Threads


def encoded(number: int, suffix: str = ".png") -> bytes:
    """An image of one colour with some noise, another for each number."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, 3) // 2 + rng.integers(0, 60, (20 + number % 5, 24, 3))
    return cv2.imencode(suffix, image.astype(np.uint8))[1].tobytes()


def make_folder(root: Path, count: int = 25) -> Path:
    """Images at two depths, one of them broken, a note and a photo that is not read."""
    for number in range(count):
        file = root / f"{number % 3}" / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(number))
    (root / "1" / "004.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("")
    (root / "photo.heic").write_bytes(b"")
    return root


def tar_bytes(numbers, prefix: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in numbers:
            for name, data in ((f"{prefix}{number:03}.png", encoded(number)), (f"{number:03}.cls", b"0")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def network(folder: Path, **options) -> Network:
    """A bundle of a few nodes, for images that are faces."""
    bundle = write_bundle(folder / "bundle")
    wanted = Network(bundle, **({"detector": "none", "backend": "onnxruntime"} | options))
    with wanted.open() as model:
        return wanted.chosen(model)


def run(source, net, output, *, workers=2, per_part=4, runner=None, **options):
    plan = plan_labelling(str(source), per_part)
    return label(plan, net, Path(output), runner or Threads(workers), **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def rows(folder: Path) -> list[dict]:
    return [row for file in sorted(Path(folder).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
