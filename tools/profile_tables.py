"""Tables of docs/int8-profile.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markdown_tables import Values, device, grid, load, numbers, paragraphs, table, text

from edgefel.bench.profile.names import GROUPS

BEFORE = "operator-profile-before.jsonl"
# of single operators, those that the counts are told by
OPERATORS = ("QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput", "Slice")


@table("operator-counts", "operator-profile.jsonl", "profile")
def counts(rows: Sequence[Values]) -> str:
    """Executed nodes by group, before and after, for each file and backend."""
    before = {_subject(row): row for row in load(BEFORE, "profile") if row.get("counted")}
    after = [row for row in rows if row.get("counted")]
    lines: list[dict[str, Any]] = [
        {"group": f"{name}: {what}", "name": name} for name, what in GROUPS.items()
    ]
    lines.append({"group": "all", "name": None})
    columns: dict[str, Any] = {"group": "{group}"}
    for row in after:
        columns[_subject(row)] = lambda line, row=row: (
            f"{_nodes(before[_subject(row)], line['name'])} -> {_nodes(row, line['name'])}"
        )
    operators = [{"group": name, "op": name} for name in OPERATORS]
    single: dict[str, Any] = {"operator": "{group}"}
    for row in (row for row in after if row["backend"] == "onnxruntime"):
        single[_subject(row)] = lambda line, row=row: (
            f"{_operator(before[_subject(row)], line['op'])} -> {_operator(row, line['op'])}"
        )
    return paragraphs(
        f"`{after[0]['model']}`, random weights: nodes that are executed, before -> after.",
        grid(lines, columns),
        grid(operators, single),
        numbers(*before.values()),
        device(after),
    )


@table("operator-times", "operator-profile.jsonl", "profile")
def times(rows: Sequence[Values]) -> str:
    """Milliseconds of an image by group."""
    timed = [row for row in rows if not row.get("counted")]
    columns: dict[str, Any] = {"group": "{group}"}
    for row in timed:
        columns[f"{row['model']} {_subject(row)}: ms"] = lambda line, row=row: f"{_part(row, line)['ms']:.2f}"
        columns[f"share{' ' * len(columns)}"] = lambda line, row=row: f"{_part(row, line)['share']:.1%}"
        columns[f"GOP/s{' ' * len(columns)}"] = lambda line, row=row: (
            f"{_part(row, line)['gops']:.0f}" if "gops" in _part(row, line) else ""
        )
    whole = "; ".join(
        text(
            "{precision} {backend}: {latency_ms[p50]:.1f}{mark} ms, {profiled_ms:.1f} with the profiler",
            row,
        )
        for row in timed
    )
    threads = " and ".join(dict.fromkeys(str(row["threads"]) for row in timed))
    return paragraphs(
        grid([{"group": name} for name in GROUPS], columns),
        f"Batch 1, threads: {threads}; {whole}; ~ is not stable.",
        device(timed),
    )


def _subject(row: Values) -> str:
    return f"{row['precision']} {row['backend']}"


def _nodes(row: Values, group: str | None) -> int:
    return int(row["nodes"] if group is None else row["groups"][group]["nodes"])


def _part(row: Values, line: Values) -> Values:
    part: Values = row["groups"][line["group"]]
    return part


def _operator(row: Values, op: str) -> int:
    return sum(one["nodes"] for one in row["operators"] if one["op"] == op)
