"""Takes a finished demo into the documentation: its numbers, its images, and the README's table.

    make demo && .venv/bin/python tools/readme_results.py demo

The numbers go to docs/results/demo.json; the table in the README is made from that file alone, and a test
compares the two.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "demo.json"
START = "<!-- results: made by tools/readme_results.py -->"
END = "<!-- end of results -->"
IMAGES = {
    "faces/contact_sheet.png": "contact_sheet.jpg",
    "evaluation/confusion.png": "confusion_matrix.png",
    "photograph/grace_hopper.jpg": "photograph.jpg",
}


def table(results: dict[str, Any]) -> str:
    """The README's table, in Markdown."""
    compared = results["comparison"]
    lines = [
        "| file | precision | MB | ms/image p50 | accuracy | agrees with PyTorch | largest deviation |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in compared["files"]:
        cells = [row["file"], row["precision"], f"{row['megabytes']:.2f}"]
        if row["ms_p50"] is None:
            cells += [row["note"], "", "", ""]
        else:
            cells += [
                f"{row['ms_p50']:.1f}",
                f"{row['accuracy']:.1%}",
                f"{row['agreement']:.1%}" + (f" ({row['note']})" if row["note"] else ""),
                f"{row['deviation']:.1e}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    seconds = sum(results["seconds"].values())
    lines += [
        "",
        f"{results['model']}, batch 1, {compared['threads']} thread, {compared['images']} test faces of "
        f"people that training did not see; chance is {results['chance']:.1%}. The whole demo took "
        f"{seconds:.0f} s on {results['machine']}. Numbers: [docs/results/demo.json](docs/results/demo.json).",
    ]
    return "\n".join(lines)


def with_table(readme: str, results: dict[str, Any]) -> str:
    """The README with the table put between its two marks."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(results)}\n{END}{after}"


def main(demo: Path) -> None:
    results = json.loads((demo / "results.json").read_text())
    state = json.loads((demo / "state.json").read_text())
    results["seconds"] = state["seconds"]
    for key in ("checkpoint", "dataset"):  # where the demo was made is nobody's business
        results["evaluation"].pop(key, None)
    results["command"] = "make demo"
    results["machine"] = f"{os.cpu_count()} CPU cores ({platform.machine()}, no GPU)"
    packages = ("edgefel", "torch", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
    results["versions"] = {name: version(name) for name in packages}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for source, target in IMAGES.items():
        _copy(demo / source, ROOT / "docs" / "images" / target)
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), results))


def _copy(source: Path, target: Path) -> None:
    """As it is, or as a JPEG where the name asks for one: many faces in a PNG take megabytes."""
    if source.suffix == target.suffix:
        shutil.copy(source, target)
    else:
        cv2.imwrite(str(target), cv2.imread(str(source)), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
