"""Fills the marked tables of docs/bench.md and docs/data.md from committed rows: python tools/bench_tables.py

The commands that made the rows stand below each table; `runs/nano` is a run of `edgefel train` on the faces of
`edgefel data synthetic`, `nano` its bundle.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from quantization_tables import put_in

from edgefel.bench.results import Row, read_results

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "bench.md"
DATA_PAGE = ROOT / "docs" / "data.md"
RESULTS = ROOT / "docs" / "results"
COMPARED, BASELINE, DATA_PATH = "compare-2core.jsonl", "baseline-2core.jsonl", "data-path.jsonl"


def read(name: str) -> tuple[Row, ...]:
    """The rows of a committed file."""
    return read_results(RESULTS / name).rows


def compare_table(rows: Sequence[Row]) -> str:
    """Milliseconds, ratio with interval, size and memory, one table for each number of threads."""
    rows = _of(rows, "compare")
    judged = any("accuracy" in row.metrics for row in rows)
    names = ["ms p50", "p99", "times as fast", "95 %", "MB", "peak memory, MB"]
    names += ["accuracy, %", "macro F1, %", "worst recall, %"] if judged else []
    lines: list[str] = []
    for threads in dict.fromkeys(row.subject["threads"] for row in rows):
        head = [f"{threads} thread{'s' * (threads > 1)}", *names]
        lines += [
            *_table(head, (_compared(row, judged) for row in rows if row.subject["threads"] == threads)),
            "",
        ]
    first = rows[0]
    remark = "" if judged else ", random weights"
    lines.append(
        f"Times as fast as {first.metrics['ratio']['to']} of the same number of threads, in the same run; "
        f"batch 1{remark}; ~ marks a ratio that is not stable. {_source(rows)}"
    )
    return "\n".join(lines)


def _compared(row: Row, judged: bool) -> list[str]:
    metrics, ratio = row.metrics, row.metrics["ratio"]
    low, high = ratio["interval"]
    cells = [
        _name(row),
        f"{metrics['latency_ms']['p50']:.1f}",
        f"{metrics['latency_ms']['p99']:.1f}",
        f"{ratio['value']:.2f}{'' if ratio['stable'] else ' ~'}",
        f"{low:.2f} to {high:.2f}",
        f"{metrics['file_bytes'] / 1e6:.1f}",
        f"{metrics['peak_memory_mb']:.0f}",
    ]
    if judged:
        recall = {name: share for name, share in metrics["recall"].items() if share is not None}
        worst = min(recall, key=lambda name: recall[name])
        cells += [f"{100 * metrics['accuracy']:.1f}", f"{100 * metrics['macro_f1']:.1f}"]
        cells.append(f"{worst} {100 * recall[worst]:.0f}")
    return cells


def latency_table(rows: Sequence[Row]) -> str:
    """The model alone, and the stages from an image to labels."""
    rows = _of(rows, "latency")
    stages = list(rows[0].metrics["stages_ms"])

    def cells(row: Row) -> list[str]:
        metrics = row.metrics
        alone = metrics["latency_ms"]
        mark = "" if alone["stable"] else " ~"
        parts = [f"{metrics['stages_ms'][name]['p50']:.2f}" for name in stages]
        return [
            f"{_name(row)}, batch {row.subject['batch']}",
            f"{alone['p50']:.2f}{mark}",
            f"{alone['p99']:.2f}",
            f"{metrics['end_to_end_ms']['p50']:.1f}",
            *parts,
        ]

    head = [_threads(rows), "model, ms p50", "p99", "image to labels", *stages]
    return "\n".join([*_table(head, map(cells, rows)), "", f"Medians; ~ is not stable. {_source(rows)}"])


def throughput_table(rows: Sequence[Row]) -> str:
    """Every number of callers, the knee in bold."""
    rows = _of(rows, "throughput")
    callers = list(dict.fromkeys(row.subject["concurrency"] for row in rows))
    lines = []
    for name in dict.fromkeys(map(_name, rows)):
        cells = [name]
        for row in (row for row in rows if _name(row) == name):
            metrics = row.metrics
            mark = "" if metrics["latency_ms"]["stable"] else " ~"
            text = f"{metrics['images_per_s']:.0f}{mark} ({metrics['latency_ms']['p99']:.0f} ms)"
            cells.append(f"**{text}**" if metrics["knee"] else text)
        lines.append(cells)
    head = ["callers", *map(str, callers)]
    return "\n".join(
        [
            *_table(head, lines),
            "",
            "Images per second, in brackets the 99th percentile of what a caller waits; bold is the knee, ~ is not "
            f"stable. One thread a call. {_source(rows)}",
        ]
    )


def training_table(rows: Sequence[Row]) -> str:
    """Images per second of the training step."""
    rows = _of(rows, "train")

    def cells(row: Row) -> list[str]:
        subject, metrics = row.subject, row.metrics
        mark = "" if metrics["latency_ms"]["stable"] else " ~"
        return [
            f"{subject['model']} {subject['precision']}, batch {subject['batch']}",
            f"{metrics['images_per_s']:.1f}{mark}",
            f"{metrics['latency_ms']['p50']:.0f}",
            f"{metrics['peak_memory_mb']:.0f}",
        ]

    head = [_threads(rows), "images/s", "ms of a step, p50", "peak memory, MB"]
    return "\n".join([*_table(head, map(cells, rows)), "", f"~ is not stable. {_source(rows)}"])


def data_path_table(rows: Sequence[Row]) -> str:
    """Every stage for every model and image size; repetitions by their median."""
    rows = [row for row in _of(rows, "data-path") if "model" in row.subject]
    columns = dict.fromkeys((row.subject["model"], row.subject["image_px"]) for row in rows)
    lines = []
    for stage, workers in dict.fromkeys((row.subject["stage"], row.subject["workers"]) for row in rows):
        count = "" if workers is None else f", {workers} worker{'s' * (workers > 1)}"
        cells = [f"{stage}{count}"]
        for model, size in columns:
            chosen = [
                row
                for row in rows
                if (row.subject["stage"], row.subject["workers"]) == (stage, workers)
                and (row.subject["model"], row.subject["image_px"]) == (model, size)
            ]
            rate = f"{median(row.metrics['images_per_s'] for row in chosen):,.0f}{_unstable(chosen)}"
            times = median(row.metrics["times_training"] for row in chosen)
            cells.append(f"{rate} ({times:,.0f} x)")
        lines.append(cells)
    head = ["images/s", *(f"{model}, {size.replace('x', ' x ')} px" for model, size in columns)]
    trained = dict.fromkeys(note for row in rows for note in row.notes if note.startswith("training: "))
    return "\n".join(
        [
            *_table(head, lines),
            "",
            f"Medians of {_repetitions(rows)} runs; ~: at least one of them is not stable. In brackets how many times "
            f"what training takes ({'; '.join(note.removeprefix('training: ') for note in trained)}). {_source(rows)}",
        ]
    )


def sampling_table(rows: Sequence[Row]) -> str:
    """What balanced epochs of millions cost."""
    rows = [row for row in _of(rows, "data-path") if "rows" in row.subject]
    lines = []
    for stage in dict.fromkeys(row.subject["stage"] for row in rows):
        chosen = [row for row in rows if row.subject["stage"] == stage]
        ms = median(row.metrics["latency_ms"]["p50"] for row in chosen)
        memory = median(row.metrics["additional_memory_mb"] for row in chosen)
        lines.append([stage, f"{ms:.0f}{_unstable(chosen)}", f"{memory:.0f}"])
    subject = rows[0].subject
    head = [f"{subject['rows']:,} images, {subject['groups']} videos", "ms", "additional MB"]
    return "\n".join(
        [
            *_table(head, lines),
            "",
            f"Medians of {_repetitions(rows)} runs; ~: at least one of them is not stable. {_source(rows)}",
        ]
    )


def _repetitions(rows: Sequence[Row]) -> int:
    return max(Counter(row.key for row in rows).values())


def _unstable(rows: Sequence[Row]) -> str:
    return "" if all(row.metrics["latency_ms"]["stable"] for row in rows) else " ~"


def _of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def _name(row: Row) -> str:
    return f"{row.subject['model']} {row.subject['precision']}, {row.subject['backend']}"


def _threads(rows: Sequence[Row]) -> str:
    threads = rows[0].subject["threads"]
    return f"{threads} thread{'s' * (threads > 1)}"


def _table(head: Sequence[str], lines: Iterator[list[str]] | Sequence[list[str]]) -> list[str]:
    """The first column is text."""
    return [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(cells)} |" for cells in lines),
    ]


def _source(rows: Sequence[Row]) -> str:
    (name,) = (name for name in (COMPARED, BASELINE, DATA_PATH) if rows[0] in read(name))
    commands = " and ".join(f"`{command}`" for command in dict.fromkeys(row.command for row in rows))
    return f"{rows[0].environment['device']}. Numbers: [results/{name}](results/{name}), made by {commands}."


TABLES: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "compare": (COMPARED, compare_table),
    "trained": (BASELINE, compare_table),
    "latency": (BASELINE, latency_table),
    "throughput": (BASELINE, throughput_table),
    "training": (BASELINE, training_table),
}


DATA_TABLES: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "sampling": (DATA_PATH, sampling_table),
    "data-path": (DATA_PATH, data_path_table),
}


def main() -> int:
    for page, tables in ((PAGE, TABLES), (DATA_PAGE, DATA_TABLES)):
        text = page.read_text(encoding="utf-8")
        for name, (results, table) in tables.items():
            text = put_in(text, name, table(read(results)))
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
