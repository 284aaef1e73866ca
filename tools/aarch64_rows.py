"""What tools/aarch64_check.sh found, as one JSON document on standard output, and its table in the docs.

    python tools/aarch64_rows.py RUN --command COMMAND

RUN holds `packed.json` (of `edgefel pack --json`) and the folders `here` and `there` (aarch64), each with
`machine.json`, a file of `edgefel predict --json` per precision and `run.jsonl` of `edgefel run --json`; `there`
also has `doctor.json`. The exit code is 1 if a precision is further from `here` than export/parity/limits.py allows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from markdown_tables import grid, numbers, paragraphs, table

from edgefel.errors import EdgefelError
from edgefel.export.parity.limits import LIMITS
from edgefel.files.documents import parse_json, read_json
from edgefel.files.read import read_text
from edgefel.files.write import json_text

PACKAGES = ("edgefel", "numpy", "opencv-python-headless", "onnxruntime")
Line = Mapping[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Of a JSON Lines file; raises EdgefelError for what is not JSON, NaN included."""
    return [parse_json(line, f"{path}:{n}") for n, line in enumerate(read_text(path).splitlines(), 1)]


def compare(here: Sequence[Line], there: Sequence[Line], precision: str) -> dict[str, Any]:
    """Largest difference of a probability, and how many images have the same label. Each image is one face.

    Raises EdgefelError if these are not the same images, if one has not exactly one face, or if there are none.
    """
    if not here or [line["source"] for line in here] != [line["source"] for line in there]:
        raise EdgefelError(f"{precision}: not the same images here ({len(here)}) and there ({len(there)})")
    worst, same = 0.0, 0
    for one, other in zip(here, there, strict=True):
        if not len(one["faces"]) == len(other["faces"]) == 1:
            raise EdgefelError(
                f"{precision}: {one['source']} does not have one face; predict with --no-detect"
            )
        (a,), (b,) = one["faces"], other["faces"]
        if list(a["probabilities"]) != list(b["probabilities"]):
            raise EdgefelError(f"{precision}: {one['source']} has other classes there")
        gaps = [abs(a["probabilities"][name] - b["probabilities"][name]) for name in a["probabilities"]]
        worst = max(worst, *gaps)
        same += a["top_label"] == b["top_label"]
    limit = LIMITS[precision]
    within = (limit.max_deviation is None or worst <= limit.max_deviation) and (
        limit.min_agreement is None or same >= limit.min_agreement * len(here)
    )
    return {
        "precision": precision,
        "images": len(here),
        "largest_difference": worst,
        "same_labels": same,
        "within": within,
    }


def compare_found(here: Sequence[Line], there: Sequence[Line]) -> dict[str, int]:
    """Faces that are found in the same images: how many on each machine, and in how many images they have the same
    boxes and labels."""

    def found(line: Line) -> list[Any]:
        return [(face["box"], face["top_label"]) for face in line["faces"]]

    if not here or [line["source"] for line in here] != [line["source"] for line in there]:
        raise EdgefelError(f"run.sh: not the same images here ({len(here)}) and there ({len(there)})")
    return {
        "images": len(here),
        "faces_here": sum(len(line["faces"]) for line in here),
        "faces_there": sum(len(line["faces"]) for line in there),
        "same_images": sum(found(one) == found(other) for one, other in zip(here, there, strict=True)),
    }


def document(run: Path, command: str) -> dict[str, Any]:
    packed = read_json(run / "packed.json")["deploy"]
    here, there = (read_json(run / name / "machine.json") for name in ("here", "there"))
    pairs = {
        name: [read_lines(run / side / f"{name}.jsonl") for side in ("here", "there")]
        for name in (*packed["precisions"], "run")
    }
    return {
        "command": command,
        "model": packed["model"],
        "index_sha256": packed["index_sha256"],
        "here": {"cpu": here["cpu"], **_software(here)},
        "there": {"cpu": "QEMU's cortex-a76", **_software(there)},
        "doctor": read_json(run / "there" / "doctor.json")["counts"],
        "rows": [compare(*pairs[name], name) for name in packed["precisions"]],
        "run": compare_found(*pairs["run"]),
    }


def _software(machine: Mapping[str, Any]) -> dict[str, Any]:
    versions = {name: machine["versions"][name] for name in PACKAGES}
    return {"architecture": machine["architecture"], "python": machine["python"], "versions": versions}


@table("aarch64", "aarch64.json")
def table_of(found: Mapping[str, Any]) -> str:
    columns = {
        "{model}, {there[architecture]} beside {here[architecture]}".format(**found): "{precision}",
        "largest difference of a probability": "{largest_difference:.1e}",
        "same label": "{same_labels} of {images}",
    }
    run, here, there = found["run"], found["here"], found["there"]
    versions = ", ".join(f"{name} {version}" for name, version in there["versions"].items())
    return paragraphs(
        grid(found["rows"], columns),
        f"`install.sh --offline` ended well, and so did `edgefel doctor` ({found['doctor']['ok']} ok, "
        f"{found['doctor']['note']} notes). `run.sh` found {run['faces_there']} faces, against {run['faces_here']} on "
        f"{here['architecture']}; boxes and labels are the same in {run['same_images']} of {run['images']} images.",
        f"Faces of `edgefel data synth`. {there['architecture']}: {there['cpu']}, Python {there['python']}; "
        f"{here['architecture']}: {here['cpu']}, Python {here['python']}; both: {versions}. {numbers(found)}",
    )


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--command", required=True, help="What was called; it is recorded.")
def main(run: Path, command: str) -> None:
    try:
        found = document(run, command)
    except EdgefelError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    click.echo(json_text(found, indent=1))
    if beyond := [row["precision"] for row in found["rows"] if not row["within"]]:
        click.echo(f"error: {', '.join(beyond)}: further apart than export/parity/limits.py allows", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
