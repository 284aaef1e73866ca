"""Leaks planted in a data set that `edgefel data inspect` finds, and its false alarms on clean faces.

python -m edgefel.bench.experiments.planted_leak [--count 3000] > docs/results/planted-leaks.json

Renders faces, inspects them, then puts copies of images of the split train into the split test, 20 of each
kind, under the names of other people, and inspects again. Takes a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel import __version__
from edgefel.bench.command import run_bench
from edgefel.files.documents import read_json

EACH = 20
SYNTH = ("--size", "112", "--subjects", "300")

Pixels = NDArray[np.uint8]
# suffix and file of the copy, from the file of the image
Copy = Callable[[bytes], tuple[str, bytes]]


def edited(edit: Callable[[Pixels], Any], suffix: str = ".png", *parameters: int) -> Copy:
    """A copy whose pixels, BGR [H, W, 3], are edited, in a format of OpenCV's with its parameters."""

    def copy(data: bytes) -> tuple[str, bytes]:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return suffix, cv2.imencode(suffix, edit(np.asarray(pixels, np.uint8)), parameters)[1].tobytes()

    return copy


KINDS: dict[str, Copy] = {
    "exact copy": lambda data: (".png", data),
    "JPEG, quality 50": edited(lambda pixels: pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 50),
    "70 % of the size": edited(
        lambda pixels: cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    ),
    "30 % brighter": edited(lambda pixels: cv2.convertScaleAbs(pixels, alpha=1.3)),
}


def plant(folder: Path, seed: int = 0) -> dict[str, list[frozenset[str]]]:
    """Adds EACH copies of every kind to the split test, each of another image of the split train.

    folder: a data set with a labels.csv. Returns the paths of image and copy, relative to it, by kind.
    """
    table = folder / "labels.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    sources = random.Random(seed).sample([row for row in rows if row["split"] == "train"], EACH * len(KINDS))
    (folder / "planted").mkdir()
    leaks: dict[str, list[frozenset[str]]] = {kind: [] for kind in KINDS}
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        for number, (row, kind) in enumerate(zip(sources, itertools.cycle(KINDS), strict=False)):
            suffix, data = KINDS[kind]((folder / row["path"]).read_bytes())
            copy = f"planted/{number:03d}{suffix}"
            (folder / copy).write_bytes(data)
            writer.writerow({**row, "path": copy, "split": "test", "subject": f"planted {number}"})
            leaks[kind].append(frozenset((row["path"], copy)))
    return leaks


def inspect(work: Path, output: str, count: int) -> tuple[str, dict[str, Any]]:
    """The command and its report."""
    command = run(work, "data", "inspect", "faces", "-o", output, "--limit", str(count))
    return command, read_json(work / output / "report.json")


def run(work: Path, *arguments: str) -> str:
    """Runs `edgefel ARGUMENTS`, which it returns, in the folder `work`."""
    typed = shlex.join(["edgefel", *arguments])
    print(typed, file=sys.stderr)
    command = [sys.executable, "-m", "edgefel.cli.main", *arguments]
    subprocess.run(command, cwd=work, check=True, stdout=sys.stderr)
    return typed


def found_pairs(report: dict[str, Any]) -> set[frozenset[str]]:
    """Paths of the two images of each pair that a report lists as copies or as alike, across splits."""
    return {
        frozenset(Path(one["path"]).relative_to("faces").as_posix() for one in pair)
        for listed in (*report["copies"]["listed"], *report["near"]["listed"])
        if listed["across_splits"]
        for pair in itertools.combinations(listed["images"], 2)
    }


def measure(count: int) -> dict[str, Any]:
    """Renders, inspects, plants, inspects; the document of the results."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as folder:
        work = Path(folder)
        rendered = run(work, "data", "synth", "-o", "faces", "--count", str(count), *SYNTH)
        before, clean = inspect(work, "clean", count)
        leaks = plant(work / "faces")
        after, report = inspect(work, "planted", count)
    found = found_pairs(report)
    possible = count * (count - 1) // 2
    wrong = clean["copies"]["superfluous"] + clean["near"]["pairs"] + clean["near"]["within_group"]
    return {
        "commands": [rendered, before, after],
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
            kind: {"planted": len(pairs), "found": sum(pair in found for pair in pairs)}
            for kind, pairs in leaks.items()
        },
        "found_although_not_planted": len(found.difference(*leaks.values())),
        "problems": report["problems"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="images [%(default)s]")
    sys.exit(run_bench(parser, measure))
