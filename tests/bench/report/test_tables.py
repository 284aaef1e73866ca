"""What the tables say of a ratio."""

from __future__ import annotations

from bench_rows import compared, row

from edgefel.bench.report.rows import repetitions
from edgefel.bench.report.tables import summary


def ratios(*references: str) -> list[tuple[str, str]]:
    rows = []
    for batch, reference in enumerate(references, 1):
        metrics = compared(10.0)
        metrics["ratio"] = {**metrics["ratio"], "to": reference}
        rows.append(row(subject={"model": "arbex", "batch": batch}, metrics=metrics))
    table = summary(list(repetitions(rows).values()))
    place = table.titles.index("times as fast")
    return [(line[place].aside, line[place].hint) for line in table.lines]


def test_one_reference_is_said_when_pointed_at():
    for aside, hint in ratios("poster-v2 fp32 pytorch", "poster-v2 fp32 pytorch"):
        assert "against" not in aside
        assert hint == "against poster-v2 fp32 pytorch"


def test_several_references_are_said_in_each_row():
    (first, _), (second, _) = ratios("poster-v2 fp32 pytorch", "arbex fp32 onnxruntime")
    assert first.splitlines()[1] == "against poster-v2 fp32 pytorch"
    assert second.splitlines()[1] == "against fp32 onnxruntime"
