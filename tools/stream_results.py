"""Fills the tables of docs/jetson.md from docs/results/stream.json.

python -m edgefel.bench.stream clip.mp4 bundle > docs/results/stream.json
python tools/stream_results.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "jetson.md"
RESULTS = ROOT / "docs" / "results" / "stream.json"
BEGIN, END = "<!-- stream: made by tools/stream_results.py -->", "<!-- end of stream -->"


def tables(row: dict[str, Any]) -> str:
    """The Markdown between the marks."""
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
    ]
    return "\n".join(lines)


def filled(page: str, row: dict[str, Any]) -> str:
    """The page with the tables of `row`; raises ValueError if its marks are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} ... {END} in the page")
    return f"{before}{BEGIN}\n{tables(row)}\n{END}{after}"


def main() -> int:
    PAGE.write_text(
        filled(PAGE.read_text(encoding="utf-8"), json.loads(RESULTS.read_text())), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
