"""Fills every table of README.md and docs/*.md from the committed results.

\b
    python tools/docs_tables.py             rewrites the tables
    python tools/docs_tables.py --check     names the stale ones; exit code 1 if there are any
    python tools/docs_tables.py --images    also draws the plots of the ablations
    python tools/docs_tables.py --demo demo --kernels results/kernels.json     takes new results first
    python tools/docs_tables.py --mixed auto                                   as above

`<!-- results: NAME -->` and `<!-- end of results: NAME -->` mark the place of a table in a page. Tables are made from
docs/results alone, where each file holds the command that made it. --demo takes the folder of `make demo`, with its
images; --kernels takes what `edgefel bench kernels -o results` wrote; --mixed the bundle of the commands in MIXED.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import aarch64_rows  # noqa: F401  registers its table
import bench_tables  # noqa: F401  registers its tables
import calibration_tables  # noqa: F401
import click
import cluster_tables  # noqa: F401  registers its tables
import cv2
import kernel_tables  # noqa: F401  registers its tables
import live_tables  # noqa: F401
import network_tables  # noqa: F401
import profile_tables  # noqa: F401
import quantizer_tables  # noqa: F401
from experiment_tables import FER_PLUS, RENDERED, outcomes, trained_on
from markdown_tables import IMAGES, PAGES, RESULTS, ROOT, TABLES, filled, load, names_in

from edgefel.bench.experiments import keep_rates, quality_coverage, trained_runs
from edgefel.bench.experiments.ablation.report import figure
from edgefel.bench.experiments.int8_results import file_rows
from edgefel.files.documents import read_json
from edgefel.files.write import write_json
from edgefel.runtime.shipped import FOLDER

PATH = click.Path(path_type=Path)


def take_demo(folder: Path) -> None:
    """Numbers and images of a finished demo."""
    results = read_json(folder / "results.json")
    for key in ("checkpoint", "dataset"):  # paths of the machine
        results["evaluation"].pop(key, None)
    packages = ("edgefel", "torch", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
    results |= {
        "seconds": read_json(folder / "state.json")["seconds"],
        "command": "make demo",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}, no GPU)",
        "versions": {name: version(name) for name in packages},
    }
    write_json(RESULTS / "demo.json", results)
    shutil.copy(folder / "evaluation/confusion.png", IMAGES / "confusion_matrix.png")
    shutil.copy(folder / "photograph/grace_hopper.jpg", IMAGES / "photograph.jpg")
    # many faces in a PNG take megabytes
    sheet = cv2.imread(str(folder / "faces/contact_sheet.png"))
    cv2.imwrite(str(IMAGES / "contact_sheet.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])


def take_kernels(source: Path) -> None:
    """What compiling the kernels tells, without their arguments."""
    document = read_json(source)
    kept = {key: document[key] for key in ("bench", "command", "versions", "reason")}
    kept["compiled"] = [
        {key: value for key, value in row.items() if key not in ("constants", "arguments")}
        for row in document["compiled"]
    ]
    (RESULTS / "kernels-compiled.json").write_text(json.dumps(kept, indent=1) + "\n")


MIXED = (
    "edgefel export runs/nano-0 -o auto --int8 --fp16 --auto --data FER+",
    "edgefel parity auto --data FER+ --images 4000",
)


def take_mixed(bundle: Path) -> None:
    """The mix of precisions that `--auto` found, its files, and those of the shipped network with every layer INT8."""
    document = read_json(bundle / "layers.json")
    kept = {key: document[key] for key in ("max_drop", "images", "int8_share_of_macs", "trials")}
    kept["layers"] = len(document["layers"])
    kept["ranked_in"] = sorted({layer["precision"] for layer in document["layers"]})
    files = {"mixed": file_rows(bundle), "all_int8": file_rows(FOLDER)}
    write_json(RESULTS / "mixed-fer-plus.json", {"command": "; ".join(MIXED), **kept, **files})


def draw_plots() -> None:
    """The plots of the experiments."""
    drawn = {
        f"{kind}_{name}": figure(outcome, trained_on(outcome, faces))
        for faces, kind in ((RENDERED, "ablation"), (FER_PLUS, "ablation_fer_plus"))
        for name, outcome in outcomes(faces).items()
    }
    costs = load("keep-rates.json")["costs"]
    drawn["keep_rates"] = keep_rates.figure(costs, outcomes()[keep_rates.EXPERIMENT.name])
    drawn["quality"] = quality_coverage.figure(load("quality.json"))
    trained = load("fer-plus.json")
    drawn["fer_plus_curves"] = trained_runs.curves_figure(trained)
    drawn["fer_plus_confusion"] = trained_runs.confusion_figure(trained["runs"][0])
    for name, one in drawn.items():
        one.savefig(IMAGES / f"{name}.png", dpi=110)


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a page is stale.")
@click.option("--images", is_flag=True, help="Draw the plots of the ablations.")
@click.option("--demo", type=PATH, metavar="FOLDER", help="Take the results of make demo.")
@click.option("--kernels", type=PATH, metavar="FILE", help="Take the rows of edgefel bench kernels.")
@click.option("--mixed", type=PATH, metavar="BUNDLE", help="Take the results of a search for a mix.")
def main(check: bool, images: bool, demo: Path | None, kernels: Path | None, mixed: Path | None) -> None:
    if demo:
        take_demo(demo)
    if kernels:
        take_kernels(kernels)
    if mixed:
        take_mixed(mixed)
    if images:
        draw_plots()
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    unplaced = set(TABLES) - {name for page in pages.values() for name in names_in(page)}
    problems = [f"no page has a place for the table {name!r}" for name in sorted(unplaced)]
    for path, page in pages.items():
        if unknown := sorted(set(names_in(page)) - set(TABLES)):
            problems += [
                f"{path.relative_to(ROOT)}: no results are there for the table {name!r}" for name in unknown
            ]
            continue
        if (made := filled(page)) != page and check:
            problems.append(f"{path.relative_to(ROOT)} is stale; run: python tools/docs_tables.py")
        elif made != page:
            path.write_text(made, encoding="utf-8")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
