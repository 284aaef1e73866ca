"""Fills the marked tables of docs/jetson.md and docs/runtime.md from committed results.

edgefel data video -o clip.mp4
python -m edgefel.bench.stream clip.mp4 tests/bundles/nano-synthetic > docs/results/stream.json
python -m edgefel.bench.backends BUNDLE        (of arbex and of arbex-nano: docs/results/backends.json)
python tools/runtime_tables.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantization_tables import put_in

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def stream_tables(row: dict[str, Any]) -> str:
    """What the stream made of the video, what a frame costs, and memory."""
    truth, overhead, memory = row["truth"], row["overhead"], row["memory"]
    clip, per_frame = row["clip"], overhead["ms_per_frame"]
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
        "| ms of one core for a frame | |",
        "| --- | ---: |",
        f"| detection | {per_frame['detection']:.2f} |",
        f"| inference of {overhead['faces_per_frame']:.0f} faces | {per_frame['inference']:.2f} |",
        f"| all the rest: decoding, alignment, preprocessing, tracking, JSON | {per_frame['overhead']:.2f} |",
        "",
        f"Memory over {memory['minutes']:g} minutes of the looped clip: "
        f"{memory['megabytes'][0]:.0f} MB after the first {memory['seconds_between']:g} seconds, "
        f"{memory['growth_from_first_mb']:+.1f} MB from there to the end.",
        "",
        f"{row['model']} {row['precision']} by {row['backend']}, {row['threads']} thread; {row['detector']}; "
        f"{row['machine']}. Numbers: [results/stream.json](results/stream.json), made by `{row['command']}`.",
        *([f"Remark: {row['remark']}."] if "remark" in row else []),
    ]
    return "\n".join(lines)


def backend_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds per face of each file in ONNX Runtime and OpenVINO."""
    lines = [
        "| | precision | ONNX Runtime, ms | OpenVINO, ms | times as fast |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        found = {(one["precision"], one["backend"]): one for one in row["rows"]}
        for precision in dict.fromkeys(one["precision"] for one in row["rows"]):
            plain, other = found[precision, "onnxruntime"], found[precision, "openvino"]
            lines.append(
                f"| {row['model']} | {precision} | {plain['ms_p50']:.1f} | {other['ms_p50']:.1f} "
                f"| {other['times_as_fast_as_onnxruntime']:.2f} |"
            )
    first = rows[0]
    lines += [
        "",
        f"Batch {first['batch']}, {first['threads']} thread, medians of interleaved runs; {first['machine']}. Numbers: "
        f"[results/backends.json](results/backends.json), made by `python -m edgefel.bench.backends`.",
    ]
    return "\n".join(lines)


TABLES: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "stream": ("jetson.md", "stream.json", stream_tables),
    "backends": ("runtime.md", "backends.json", backend_table),
}


def main() -> int:
    for name, (page, results, table) in TABLES.items():
        path = ROOT / "docs" / page
        text = table(json.loads((RESULTS / results).read_text(encoding="utf-8")))
        path.write_text(put_in(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
