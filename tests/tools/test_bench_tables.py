"""Rows of the benches as tables: repetitions become medians, marks stay."""

from __future__ import annotations

from bench_rows import compared, row
from bench_tables import compare, medians


def measured(stage: str, ms: float, mark: str = "") -> dict:
    return {"stage": stage, "latency_ms": {"p50": ms}, "images_per_s": 1000 / ms, "mark": mark}


def test_repetitions_are_shown_by_their_medians_and_one_unstable_marks_all():
    rows = [
        measured("decode", 4.0),
        measured("decode", 2.0, " ~"),
        measured("decode", 5.0),
        measured("crop", 1.0),
    ]
    found = medians(rows, "stage")
    assert [(key, one["ms"], one["images_per_s"]) for key, one in found.items()] == [
        (("decode",), 4.0, 250.0),
        (("crop",), 1.0, 1000.0),
    ]
    assert [one["mark"] for one in found.values()] == [" ~", ""]


def test_each_number_of_threads_has_its_table_and_the_worst_class_is_named():
    rows = []
    for threads, recall in (
        (1, {"fear": 0.4, "anger": 0.9, "contempt": None}),
        (2, {"fear": 0.8, "anger": 0.7}),
    ):
        subject = {"model": "arbex", "precision": "int8", "backend": "openvino", "threads": threads}
        scores = {"accuracy": 0.8, "macro_f1": 0.7, "file_bytes": 5e6, "peak_memory_mb": 90}
        metrics = compared(10.0, **scores) | {"recall": recall}
        one = row(subject=subject, metrics=metrics)
        rows.append({**one.subject, **one.metrics, "row": one, "command": one.command, "results": "x.jsonl"})
    first, second, caption = compare(rows).split("\n\n")
    assert first.startswith("| 1 thread |")
    assert first.endswith("| fear 40 |")
    assert second.startswith("| 2 threads |")
    assert second.endswith("| anger 70 |")
    assert "[results/x.jsonl](results/x.jsonl)" in caption
