"""Fills the marked tables of docs/jetson.md and docs/runtime.md from committed results.

edgefel data video -o clip.mp4
python -m edgefel.bench.stream clip.mp4 tests/bundles/nano-synthetic > docs/results/stream.json
edgefel bench latency BUNDLE --backend onnxruntime,openvino --threads 1 --no-stages -o docs/results/latency-2core.jsonl
python tools/runtime_tables.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

from quantization_tables import put_in

from edgefel.bench.results import Row, read_results

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
LATENCY = "latency-2core.jsonl"


def stream_tables(row: dict[str, Any]) -> str:
    """What the stream made of the video, and memory."""
    truth, memory, clip = row["truth"], row["memory"], row["clip"]
    width, height = clip["size"]
    delays = [change["delay"] for change in truth["changes"]]
    slowest = (
        "one never came"
        if truth["slowest_change_s"] is None
        else f"{truth['slowest_change_s']:.2f} s at most"
    )
    lines = [
        f"| {clip['seconds']:g} s of {width}x{height} at {clip['fps']:g} fps, {clip['faces']} people | |",
        "| --- | ---: |",
        f"| frames lost, dropped | {truth['lost']}, {truth['dropped']} of {truth['frames']} |",
        f"| faces found and followed | {truth['found']:.1%} |",
        f"| tracks of each person | {', '.join(str(len(numbers)) for numbers in truth['tracks'])} |",
        f"| changes seen, and how late | {len(delays) - delays.count(None)} of {len(delays)}, {slowest} |",
        f"| label right, smoothed and frame by frame | {truth['agreement']:.1%}, {truth['raw_agreement']:.1%} |",
        f"| needless changes of label, smoothed and frame by frame | {truth['flickers']}, {truth['raw_flickers']} |",
        "",
        f"Memory over {memory['minutes']:g} minutes of the looped clip: "
        f"{memory['megabytes'][0]:.0f} MB after the first {memory['seconds_between']:g} seconds, "
        f"{memory['growth_from_first_mb']:+.1f} MB from there to the end.",
        "",
        f"{row['model']} {row['precision']} by {row['backend']}, {row['threads']} thread; {row['detector']}; "
        f"{row['machine']}. Numbers: [results/stream.json](results/stream.json), made by `{row['command']}`.",
    ]
    return "\n".join(lines)


def overhead_table(row: dict[str, Any]) -> str:
    """What a frame costs on one core."""
    overhead = row["overhead"]
    per_frame, alone = overhead["ms_per_frame"], overhead["alone"]
    lines = [
        "| ms of one core for a frame | |",
        "| --- | ---: |",
        f"| detection | {per_frame['detection']:.2f} |",
        f"| inference of {overhead['faces_per_frame']:.0f} faces | {per_frame['inference']:.2f} |",
        "| all the rest, beside these two: decoding, alignment, preprocessing, tracking, JSON "
        f"| {per_frame['overhead']:.2f} ({_range(overhead['by_second'])}) |",
        f"| all the rest by itself, with boxes and outputs replayed | {alone['ms_per_frame']:.2f} "
        f"({_range(alone['by_second'])}) |",
        "",
        "Medians over the seconds of the clip, in brackets the tenth and ninetieth percentile: the core is shared with "
        "strangers. "
        "Detection leaves the caches full of its own data, which is what the rest costs more beside it. The bundle is "
        "exported with `--uint8-input`: normalising is part of the network. Numbers: "
        f"[results/stream-overhead.json](results/stream-overhead.json), made by `{row['command']}`; {row['machine']}.",
    ]
    return "\n".join(lines)


def _range(values: list[float]) -> str:
    low, *_, high = quantiles(values, n=10)
    return f"{low:.2f} to {high:.2f}"


def backend_table(rows: Sequence[Row]) -> str:
    """Milliseconds per face of each file in ONNX Runtime and OpenVINO."""
    lines = [
        "| | precision | ONNX Runtime, ms | OpenVINO, ms | times as fast |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    p50 = {
        (row.subject["model"], row.subject["precision"], row.subject["backend"]): row.metrics["latency_ms"][
            "p50"
        ]
        for row in rows
    }
    for model, precision in dict.fromkeys(key[:2] for key in p50):
        plain, other = p50[model, precision, "onnxruntime"], p50[model, precision, "openvino"]
        lines.append(f"| {model} | {precision} | {plain:.1f} | {other:.1f} | {plain / other:.2f} |")
    first = rows[0]
    commands = " and ".join(dict.fromkeys(f"`{row.command}`" for row in rows))
    lines += [
        "",
        f"Batch {first.subject['batch']}, {first.subject['threads']} thread, medians of interleaved runs; "
        f"{first.environment['device']}. Numbers: [results/{LATENCY}](results/{LATENCY}), made by {commands}.",
    ]
    return "\n".join(lines)


def load(results: str) -> Any:
    """One row of JSON, or the rows of a file of JSON lines."""
    path = RESULTS / results
    if path.suffix == ".jsonl":
        return read_results(path).rows
    return json.loads(path.read_text(encoding="utf-8"))


TABLES: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "stream": ("jetson.md", "stream.json", stream_tables),
    "stream-overhead": ("jetson.md", "stream-overhead.json", overhead_table),
    "backends": ("runtime.md", LATENCY, backend_table),
}


def main() -> int:
    for name, (page, results, table) in TABLES.items():
        path = ROOT / "docs" / page
        text = table(load(results))
        path.write_text(put_in(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
