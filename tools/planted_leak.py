"""What `edgefel data inspect` finds of leaks that were planted, and how often it is wrong on faces without any.

    python tools/planted_leak.py [--count 3000] [-o docs/results/planted-leaks.json]

Renders faces, inspects them as they are, then puts copies of images of the split train into the split test, 20 of
each kind, under the names of other people, and inspects again. Takes a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import csv
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel import __version__
from edgefel.files.write import read_json, write_json

RESULT = Path(__file__).resolve().parent.parent / "docs" / "results" / "planted-leaks.json"
EACH = 20
SYNTH = ("--size", "112", "--subjects", "300")

SourceImage = NDArray[np.uint8]


def encoded(image: SourceImage, suffix: str, *parameters: int) -> bytes:
    """BGR [H, W, 3] as a file."""
    done, data = cv2.imencode(suffix, image, parameters)
    if not done:
        raise ValueError(f"OpenCV cannot write {suffix}")
    return data.tobytes()


def decoded(data: bytes) -> SourceImage:
    """BGR [H, W, 3]."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def resized(image: SourceImage, share: float) -> SourceImage:
    """By pixel areas."""
    return np.asarray(cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)


# each makes the file of the copy from the file of the image
KINDS: dict[str, Callable[[bytes], tuple[str, bytes]]] = {
    "exact copy": lambda data: (".png", data),
    "JPEG, quality 50": lambda data: (".jpg", encoded(decoded(data), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 50)),
    "70 % of the size": lambda data: (".png", encoded(resized(decoded(data), 0.7), ".png")),
    "30 % brighter": lambda data: (".png", encoded(cv2.convertScaleAbs(decoded(data), alpha=1.3), ".png")),
}


@dataclass(frozen=True)
class Leak:
    """A copy in the split test of an image of the split train; both relative to the data set."""

    kind: str
    source: str
    copy: str


def plant(folder: Path, seed: int = 0) -> list[Leak]:
    """Adds EACH copies of every kind, each of another image, to a data set with a labels.csv."""
    table = folder / "labels.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    sources = random.Random(seed).sample([row for row in rows if row["split"] == "train"], EACH * len(KINDS))
    (folder / "planted").mkdir()
    leaks = []
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        for number, row in enumerate(sources):
            kind = list(KINDS)[number % len(KINDS)]
            suffix, data = KINDS[kind]((folder / row["path"]).read_bytes())
            copy = f"planted/{number:03d}{suffix}"
            (folder / copy).write_bytes(data)
            writer.writerow({**row, "path": copy, "split": "test", "subject": f"planted {number}"})
            leaks.append(Leak(kind, row["path"], copy))
    return leaks


def inspect(work: Path, output: str, count: int) -> tuple[str, dict[str, Any]]:
    """The command and its report."""
    words = ("data", "inspect", "faces", "-o", output, "--limit", str(count))
    run(work, *words)
    return shlex.join(["edgefel", *words]), read_json(work / output / "report.json")


def run(work: Path, *arguments: str) -> None:
    """`edgefel ARGUMENTS` in the folder `work`."""
    print(shlex.join(["edgefel", *arguments]), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "edgefel.cli.main", *arguments], cwd=work, check=True)


def found_pairs(report: dict[str, Any]) -> set[frozenset[str]]:
    """Paths of the two images of each pair that a report lists as copies or as alike, across splits."""
    listed = [
        one["images"] for kind in ("copies", "near") for one in report[kind]["listed"] if one["across_splits"]
    ]
    paths = [[Path(one["path"]).relative_to("faces").as_posix() for one in images] for images in listed]
    return {
        frozenset((first, second))
        for names in paths
        for first in names
        for second in names
        if first != second
    }


def measure(work: Path, count: int) -> dict[str, Any]:
    """Renders, inspects, plants, inspects; the document of what came out."""
    synth = ("data", "synth", "-o", "faces", "--count", str(count), *SYNTH)
    run(work, *synth)
    before, clean = inspect(work, "clean", count)
    leaks = plant(work / "faces")
    after, report = inspect(work, "planted", count)
    found = found_pairs(report)
    wanted = {frozenset((leak.source, leak.copy)) for leak in leaks}
    possible = count * (count - 1) // 2
    wrong = clean["copies"]["superfluous"] + clean["near"]["pairs"] + clean["near"]["within_group"]
    return {
        "commands": [shlex.join(["edgefel", *synth]), before, after],
        "versions": {"edgefel": __version__, "opencv": cv2.__version__},
        "distance": clean["near"]["distance"],
        "clean": {
            "images": count,
            "pairs": possible,
            "found": wrong,
            "false_pair_rate": wrong / possible,
            "problems": clean["problems"],
        },
        "planted": {
            kind: {
                "planted": sum(leak.kind == kind for leak in leaks),
                "found": sum(
                    leak.kind == kind and frozenset((leak.source, leak.copy)) in found for leak in leaks
                ),
            }
            for kind in KINDS
        },
        "found_although_not_planted": len(found - wanted),
        "problems": report["problems"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=3000, help="images")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaks-") as work:
        document = measure(Path(work), arguments.count)
    write_json(arguments.output, document)
    for kind, row in document["planted"].items():
        print(f"{kind}: {row['found']} of {row['planted']} found")
    clean = document["clean"]
    print(f"faces without leaks: {clean['found']} of {clean['pairs']} pairs")


if __name__ == "__main__":
    main()
