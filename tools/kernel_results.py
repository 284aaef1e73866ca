"""Takes what compiling the kernels tells into the documentation.

    edgefel bench kernels -o results && python tools/kernel_results.py results/kernels.json

The rows go to docs/results/kernels-compiled.json; the table in docs/kernels.md is made from that file alone, and a
test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "kernels-compiled.json"
PAGE = ROOT / "docs" / "kernels.md"
START = "<!-- compiled: made by tools/kernel_results.py -->"
END = "<!-- end of compiled -->"


def table(document: dict[str, Any]) -> str:
    """Registers, bytes that spill and occupancy of each kernel on each target, in Markdown."""
    rows = document["compiled"]
    archs = list(dict.fromkeys(row["arch"] for row in rows))
    lines = [
        f"| registers / occupancy | {' | '.join(archs)} |",
        f"|---|{'---:|' * len(archs)}",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = [_cell(row) for arch in archs for row in rows if (row["name"], row["arch"]) == (name, arch)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    orin = [row["resources"]["shared_bytes"] for row in rows if row["arch"] == "sm_87"]
    spilled = sum(_memory(row) for row in rows)
    lines.append("")
    lines.append(
        f"Bytes of stack, local memory and spills, all kernels and targets together: {spilled}. "
        f"Most shared memory on sm_87: {max(orin) / 1024:.1f} KiB. Triton {document['versions']['triton']}."
    )
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    return f"{row['resources']['registers']} / {row['occupancy']:.0%}"


def _memory(row: dict[str, Any]) -> int:
    names = ("stack_bytes", "local_bytes", "spill_store_bytes", "spill_load_bytes")
    return sum(row["resources"][name] for name in names)


def put_in(page: str, made: str) -> str:
    """The page with the table between its marks replaced."""
    before, rest = page.split(START)
    return f"{before}{START}\n{made}\n{END}{rest.split(END)[1]}"


def main(source: Path) -> None:
    """Copies the rows and remakes the table."""
    document = json.loads(source.read_text())
    kept = {key: document[key] for key in ("bench", "command", "versions", "reason", "compiled")}
    for row in kept["compiled"]:
        row.pop("constants", None)
        row.pop("arguments", None)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(put_in(PAGE.read_text(), table(kept)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
