"""Puts measured rows into the documentation of INT8 and of the graph.

    python tools/int8_results.py run faces -o docs/results
    python -m edgefel.bench.calibration > docs/results/calibration.json
    python -m edgefel.bench.precisions > docs/results/precisions.json
    python tools/surgery_effect.py --model arbex > docs/results/surgery.json
    edgefel calibrate --data faces --compare --checkpoint run -o comparison \
        --per-class 1 --per-class 8 --seeds 7 --images 700
    cp comparison/comparison.json docs/results/calibration-comparison.json
    python tools/quantization_tables.py

The tables between the marks in docs/quantization.md and docs/graph.md are made from docs/results/ alone, and a test
compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def calibration(row: Mapping[str, Any]) -> str:
    """Time and memory of calibrating the full model."""
    return (
        f"Calibrating `{row['model']}` on {row['images']} images takes {row['seconds']:.0f} s and "
        f"{row['peak_mb']:.0f} MB at most, with {row['tensors']} activations of "
        f"{row['activation_bytes_per_image'] / 1e6:.0f} MB per image ({row['workers']} threads, "
        f"{row['machine']['cores']} cores of an {row['machine']['cpu']}; {_source(row, 'calibration.json')})."
    )


def trained(document: Mapping[str, Any]) -> str:
    """Both exports of the trained network, and the broken one."""
    mixed, broken = document["mixed"], document["broken"]
    images = mixed["files"][0]["images"]
    lines = [
        f"A trained `arbex-nano` on {images} faces of people that neither training, calibration nor the search saw:",
        "",
        "| export | file | MB | agreement | SQNR dB | KL, nats | accuracy | worst class, points | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for title, name in (("every layer INT8", "all_int8"), ("`--auto`", "mixed")):
        for row in document[name]["files"]:
            if name == "mixed" and row["precision"] in ("fp32", "fp16"):
                continue
            low, high = row["worst_recall_interval"]
            lines.append(
                f"| {'' if row['precision'] in ('fp32', 'fp16') else title} | {row['file']} "
                f"| {row['bytes'] / 1e6:.2f} | {row['agreement']:.2%} | {row['logits_sqnr_db']:.1f} "
                f"| {row['kl_mean']:.1e} | {row['accuracy']:.1%} "
                f"| {row['worst_class']} {row['worst_recall_change']:+.1f} [{low:+.1f}, {high:+.1f}] "
                f"| {row['verdict']} |"
            )
    kept = mixed["kept_float"]
    tried = "1 mix" if mixed["mixes_tried"] == 1 else f"{mixed['mixes_tried']} mixes"
    lines += [
        "",
        f"PyTorch's own accuracy is {mixed['files'][0]['accuracy_reference']:.1%}. Ranges from "
        f"{document['calibration']['per_class']} images of each class, `{document['calibration']['method']}`. "
        f"`--auto --max-drop {document['search']['max_drop']}`, on {document['search']['images']} other faces, kept "
        f"{len(kept)} of {mixed['layers']} layers in float"
        + (f" ({', '.join(f'`{name}`' for name in kept)})" if kept else "")
        + f" after {tried}; {mixed['int8_share_of_macs']:.1%} of the MACs are INT8.",
        "",
        f"A scale that is wrong by {broken['scale_times']}, of the input of `{broken['layer']}` alone: verdict "
        f"`{broken['verdict']}`, {broken['agreement']:.1%} of the labels agree, and the ranking puts "
        f"`{broken['costliest_layers'][0]['node']}` first with {broken['costliest_layers'][0]['kl']:.1e} nats, before "
        f"`{broken['costliest_layers'][1]['node']}` with {broken['costliest_layers'][1]['kl']:.1e}.",
        "",
        "![What the costliest layers cost alone, and the mixes that were tried](images/layers.png)",
        "",
        f"{_source(document, 'int8-nano.json')}.",
    ]
    return "\n".join(lines)


def speed(document: Mapping[str, Any]) -> str:
    """Eager PyTorch, FP32 and INT8 files on one thread."""
    lines = [
        "| | MB | ms per image, p50 | times as fast as eager PyTorch, 95 % |",
        "|---|---:|---:|---:|",
    ]
    for row in document["rows"]:
        low, high = row["interval"]
        size = "" if row["megabytes"] is None else f"{row['megabytes']:.1f}"
        ratio = f"{row['times_as_fast_as_eager']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {row['name']} | {size} | {row['ms_p50']:.1f} | {ratio} |")
    lines += [
        "",
        f"`{document['model']}` with random weights, batch {document['batch']}, {document['threads']} thread, "
        f"{document['runs']} runs in turn, outputs compared first; {document['machine']['cpu']}, ONNX Runtime "
        f"{document['versions']['onnxruntime']}, PyTorch {document['versions']['torch']}. "
        f"{_source(document, 'precisions.json')}.",
    ]
    return "\n".join(lines)


def comparison(document: Mapping[str, Any]) -> str:
    """Balanced against random against most-frequent calibration, in the comparison's own words."""
    image_counts = sum(document["held_out"]["counts"].values())
    lines = [
        f"On a trained `{document['source']['model']}`, {document['options']['seeds']} seeds, imbalance "
        f"{document['options']['imbalance']:g}, {image_counts} held-out synthetic faces:",
        "",
        *(f"- {sentence}" for sentence in document["verdicts"]),
        "",
        "![Macro F1 by calibration set, paired differences, recall per class](images/calibration_comparison.png)",
        "",
        f"{_source(document, 'calibration-comparison.json')}.",
    ]
    return "\n".join(lines)


def surgery(document: Mapping[str, Any]) -> str:
    """What each step does to nodes, work, bytes and time."""
    lines = [
        "| step | nodes | MMAC | bytes of an image | latency, with / without | largest deviation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in document["rows"]:
        nodes, macs, size = (
            _pair(row[name], factor)
            for name, factor in (("nodes", 1.0), ("macs", 1e-6), ("input_bytes", 1.0))
        )
        deviation = max(row["max_deviation"].values())
        lines.append(
            f"| {row['step']} | {nodes} | {macs} | {size} | {row['latency_ratio']:.2f} | {deviation:.0e} |"
        )
    lines += [
        "",
        f"`{document['model']}` with random weights, {document['rows'][0]['runs']} runs in turn on one thread of "
        f"ONNX Runtime {document['versions']['onnxruntime']}, outputs compared first. "
        f"{_source(document, 'surgery.json')}.",
    ]
    return "\n".join(lines)


def _source(document: Mapping[str, Any], name: str) -> str:
    """What measured the rows, and where they are."""
    return f"`{document['command']}`; [{name}](results/{name})"


def _pair(values: Mapping[str, float], factor: float) -> str:
    without, with_step = (values[key] * factor for key in ("without", "with"))
    return f"{without:,.0f}" if without == with_step else f"{without:,.0f} to {with_step:,.0f}"


TABLES: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
    ("quantization.md", "calibration", "calibration.json", calibration),
    ("quantization.md", "trained", "int8-nano.json", trained),
    ("quantization.md", "speed", "precisions.json", speed),
    ("graph.md", "surgery", "surgery.json", surgery),
    ("calibration.md", "comparison", "calibration-comparison.json", comparison),
)


def put_in(page: str, mark: str, made: str) -> str:
    """The page with what lies between the marks replaced."""
    start, end = f"<!-- results: {mark} -->", f"<!-- end of results: {mark} -->"
    before, rest = page.split(start)
    return f"{before}{start}\n{made}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Remakes every table whose results are there."""
    for page, mark, name, make in TABLES:
        source = RESULTS / name
        if source.is_file():
            path = ROOT / "docs" / page
            made = make(json.loads(source.read_text(encoding="utf-8")))
            path.write_text(put_in(path.read_text(encoding="utf-8"), mark, made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
