"""Fills the marked tables of docs/roofline.md from docs/results/roofline.jsonl.

for model in arbex poster-v2 arbex-nano; do
  edgefel bench roofline $model --device orin-nano-super,orin-nx,agx-orin,thor,h100 \\
    --precision fp32,fp16,int8,int8+fp16 --batch-sizes 1,8 --layers 0 -o docs/results/roofline.jsonl
done
edgefel bench roofline arbex --precision fp32,fp16,int8+fp16 --plot docs/images/roofline.png
python tools/roofline_tables.py

Delete the old rows first: files of results are only ever appended to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from quantization_tables import put_in

from edgefel.bench.results import Row, read_results
from edgefel.bench.roofline.devices import DEVICES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "roofline.jsonl"
PAGE = ROOT / "docs" / "roofline.md"
MODEL = "arbex"
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
_TITLES = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8", "int8+fp16": "INT8 + FP16"}


def devices_table(rows: Sequence[Row]) -> str:
    """The ceilings that the rows were made with."""
    lines = [
        "| `--device` | | power mode | FP32 (TF32), T/s | FP16, T/s | INT8, T/s | elementwise FP32, FP16, T/s "
        "| GB/s | sources |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, device in DEVICES.items():
        ceilings = next(row for row in rows if row.subject["target"] == name).metrics["ceilings"]
        tera = {kind: f"{one['per_second'] / 1e12:.4g}" for kind, one in ceilings.items()}
        sources = dict.fromkeys(part for one in ceilings.values() for part in one["source"].split(" and "))
        links = ", ".join(f"[{number}]({source})" for number, source in enumerate(sources, start=1))
        lines.append(
            f"| `{name}` | {device.title} | {device.mode} | {tera['fp32']} | {tera['fp16']} | {tera['int8']} "
            f"| {tera['elementwise fp32']}, {tera['elementwise fp16']} "
            f"| {ceilings['bytes']['per_second'] / 1e9:.4g} | {links} |"
        )
    return "\n".join(lines)


def floors_table(rows: Sequence[Row]) -> str:
    """Floors of the full model at batch 1, and of eight images together."""
    found = {
        tuple(row.subject[name] for name in ("model", "target", "precision", "batch")): row for row in rows
    }
    lines = [
        "| | "
        + " | ".join(f"{_TITLES[precision]}, ms" for precision in PRECISIONS)
        + " | images/s at most, batch 8 |",
        "| --- |" + " ---: |" * (len(PRECISIONS) + 1),
    ]
    for target in DEVICES:
        cells = []
        for precision in PRECISIONS:
            metrics = found[MODEL, target, precision, 1].metrics
            cells.append(f"{metrics['floor_ms']:.3f} ({metrics['ideal_ms']:.3f})")
        best = min(found[MODEL, target, precision, 8].metrics["floor_ms"] for precision in PRECISIONS)
        lines.append(f"| `{target}` | {' | '.join(cells)} | {8e3 / best:,.0f} |")
    one = found[MODEL, next(iter(DEVICES)), "fp32", 1]
    lines += [
        "",
        f"Bounds, not measurements. `{MODEL}`, batch 1: {one.metrics['parameters'] / 1e6:.2f} M parameters, "
        f"{one.metrics['macs'] / 1e9:.3f} GMAC. In brackets the ideal of perfect caches. Numbers: "
        f"[results/roofline.jsonl](results/roofline.jsonl), made by `{one.command}`.",
    ]
    return "\n".join(lines)


def models_table(rows: Sequence[Row]) -> str:
    """What each model moves and computes, in each precision."""
    target = next(iter(DEVICES))
    lines = [
        "| | | M parameters | GMAC | of it INT8 | weights, MB | activations, MB | floor, ms | bound by memory "
        "| unfused, ms |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        subject, metrics = row.subject, row.metrics
        if subject["target"] != target or subject["batch"] != 1:
            continue
        moved = metrics["bytes"]
        lines.append(
            f"| `{subject['model']}` | {_TITLES[subject['precision']]} | {metrics['parameters'] / 1e6:.2f} "
            f"| {metrics['macs'] / 1e9:.3f} | {metrics['macs_by_type'].get('int8', 0) / metrics['macs']:.0%} "
            f"| {moved['weights'] / 1e6:.1f} | {(moved['read'] + moved['written']) / 1e6:.1f} "
            f"| {metrics['floor_ms']:.3f} | {metrics['bound_share']['memory']:.0%} "
            f"| {metrics['unfused_floor_ms']:.3f} |"
        )
    lines += ["", f"At batch 1 on `{target}`."]
    return "\n".join(lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "devices": devices_table,
    "floors": floors_table,
    "models": models_table,
}


def main() -> int:
    rows = read_results(RESULTS).rows
    for name, table in TABLES.items():
        PAGE.write_text(put_in(PAGE.read_text(encoding="utf-8"), name, table(rows)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
