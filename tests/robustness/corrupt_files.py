"""What happens to a data set of which 1 % of the files are corrupt: 10,000 synthetic faces, 100 of them spoilt.

    python tests/robustness/corrupt_files.py [--count 10000] [-o docs/results/corrupt-files.json]

Renders the faces, spoils files in known ways, runs `edgefel data inspect` and a few steps of `edgefel train`, which
reads every image of the splits train and val first, and writes what was spoilt and what each of the two listed. Takes
a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edgefel import __version__
from edgefel.files.documents import read_json
from edgefel.files.write import write_json

RESULT = Path(__file__).resolve().parents[2] / "docs" / "results" / "corrupt-files.json"
SHARE = 0.01
SYNTH = ("--size", "64", "--subjects", "500", "--format", "jpg")
TRAIN = (
    "--model",
    "arbex-nano",
    "--accelerator",
    "cpu",
    "--epochs",
    "1",
    "--per-class",
    "16",
    "--batch-size",
    "16",
)
# a line of `edgefel train` about an image that it could not read
_SKIPPED = re.compile(r"^skipped image \d+: (?P<path>.*?\.(?:jpg|png)): (?P<reason>.*)$", re.MULTILINE)

# None: the file is deleted
WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "end missing": lambda data: data[:-2],
    "zeros from the middle": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "text": lambda data: b"<!DOCTYPE html>\n<title>404 Not Found</title>\n",
    "missing": lambda data: None,
}


@dataclass(frozen=True)
class Spoilt:
    """A file that was spoilt; path: relative to the data set, as in its labels.csv."""

    path: str
    split: str
    way: str


def spoil(folder: Path, count: int, seed: int = 0) -> list[Spoilt]:
    """Spoils `count` images of a data set with a labels.csv, drawn at random, with each way in turn."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    spoilt = []
    for number, row in enumerate(random.Random(seed).sample(rows, count)):
        way = list(WAYS)[number % len(WAYS)]
        path = folder / row["path"]
        data = WAYS[way](path.read_bytes())
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        spoilt.append(Spoilt(row["path"], row["split"], way))
    return spoilt


def listed_by_inspect(report: dict[str, Any], folder: Path) -> dict[str, str]:
    """Path in the data set -> reason, of a report of `edgefel data inspect`."""
    entries = report["unreadable"]["listed"]
    return {Path(entry["path"]).relative_to(folder).as_posix(): entry["reason"] for entry in entries}


def listed_by_train(errors: str, folder: Path) -> dict[str, str]:
    """The same of what `edgefel train` says on stderr."""
    found = _SKIPPED.finditer(errors)
    return {Path(line["path"]).relative_to(folder).as_posix(): line["reason"] for line in found}


def compared(spoilt: Sequence[Spoilt], listed: dict[str, str]) -> dict[str, Any]:
    """Which of the spoilt files were listed, which were not, and what else was."""
    paths = {one.path for one in spoilt}
    return {
        "spoilt": len(paths),
        "listed": len(paths & listed.keys()),
        "not_listed": sorted(paths - listed.keys()),
        "listed_although_sound": sorted(listed.keys() - paths),
        "reasons": dict(
            Counter(re.sub(r"\(.*?\)|; .*$", "", listed[path]).strip() for path in paths & listed.keys())
        ),
    }


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`edgefel ARGUMENTS` in the folder `work`."""
    print(shlex.join(["edgefel", *arguments]), file=sys.stderr)
    command = [sys.executable, "-m", "edgefel.cli.main", *arguments]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)


def measure(work: Path, count: int) -> dict[str, Any]:
    """Renders, spoils, inspects, trains; the document of what came out."""
    synth = ("data", "synth", "-o", "faces", "--count", str(count), *SYNTH)
    run(work, *synth).check_returncode()
    faces = Path("faces")
    spoilt = spoil(work / faces, round(SHARE * count))
    inspect = ("data", "inspect", "faces", "-o", "report", "--limit", str(count), "--strict")
    inspected = run(work, *inspect)
    train = ("train", "--data", "faces", "-o", "run", *TRAIN)
    trained = run(work, *train)
    report = read_json(work / "report" / "report.json")
    read = [one for one in spoilt if one.split in ("train", "val")]  # what training reads
    by_inspect = listed_by_inspect(report, faces)
    by_train = listed_by_train(trained.stderr, work / faces)
    rows = list(csv.DictReader((work / "run" / "metrics.csv").open(encoding="utf-8")))
    return {
        "commands": [shlex.join(["edgefel", *words]) for words in (synth, inspect, train)],
        "versions": {"edgefel": __version__, "opencv": cv2.__version__},
        "images": count,
        "spoilt": dict(Counter(one.way for one in spoilt)),
        "spoilt_by_split": dict(Counter(one.split for one in spoilt)),
        "inspect": {
            "exit_code": inspected.returncode,
            "problems": report["problems"],
            **compared(spoilt, by_inspect),
        },
        "train": {
            "exit_code": trained.returncode,
            "steps": int(rows[-1]["step"]),
            "loss": float(rows[-1]["loss"]),
            "skipped_in_metrics": int(rows[-1]["skipped_images"]),
            "last_line": trained.stdout.strip().splitlines()[-1],
            **compared(read, by_train),
        },
        "files": [
            {
                "path": one.path,
                "split": one.split,
                "way": one.way,
                "inspect": by_inspect.get(one.path),
                "train": by_train.get(one.path),
            }
            for one in spoilt
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000, help="images")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corrupt-") as work:
        document = measure(Path(work), arguments.count)
    write_json(arguments.output, document)
    for command in ("inspect", "train"):
        found = document[command]
        print(
            f"{command}: {found['listed']} of {found['spoilt']} listed, {len(found['listed_although_sound'])} sound"
        )


if __name__ == "__main__":
    main()
