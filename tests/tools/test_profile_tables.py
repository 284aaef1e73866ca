"""Tables of profiles: nodes before and after, and shares of the times."""

from __future__ import annotations

import profile_tables
from bench_rows import row, timing

from edgefel.bench.profile.names import GROUPS


def found(nodes: int, results: str, ms: float | None = None) -> dict:
    """A row of INT8 in ONNX Runtime, every group with so many nodes; ms: of a group."""
    subject = {"model": "arbex", "precision": "int8", "backend": "onnxruntime", "batch": 1}
    part = {"nodes": nodes} if ms is None else {"nodes": nodes, "ms": ms, "share": 0.125}
    groups = {name: dict(part) for name in GROUPS}
    operators = [{"op": "Transpose", "group": "layout", "nodes": nodes}] * 2
    metrics = {"nodes": nodes * len(GROUPS), "groups": groups, "operators": operators}
    if ms is None:
        subject["counted"] = True
    else:
        subject["threads"] = 1
        groups["products"]["gops"] = 640.0
        metrics |= {"latency_ms": timing(25.0), "profiled_ms": 30.0, "nodes_ms": 8 * ms}
    made = row("profile", subject, metrics)
    return {
        **made.subject,
        **made.metrics,
        "mark": " ~",
        "row": made,
        "command": made.command,
        "results": results,
    }


def test_counts_of_both_files_stand_side_by_side(monkeypatch):
    monkeypatch.setattr(profile_tables, "load", lambda *_: [found(70, profile_tables.BEFORE)])
    table = profile_tables.counts(
        [found(26, "operator-profile.jsonl"), found(5, "operator-profile.jsonl", 1.0)]
    )
    lines = table.splitlines()
    assert "| group | int8 onnxruntime |" in lines
    assert sum("70 -> 26" in line for line in lines) == len(GROUPS)
    assert f"| all | {8 * 70} -> {8 * 26} |" in lines
    assert "| Transpose | 140 -> 52 |" in lines
    assert "| Slice | 0 -> 0 |" in lines
    assert "results/operator-profile-before.jsonl" in table


def test_times_have_their_share_and_the_call_with_and_without_the_profiler():
    table = profile_tables.times(
        [found(26, "operator-profile.jsonl"), found(5, "operator-profile.jsonl", 1.0)]
    )
    assert "| products | 1.00 | 12.5% | 640 |" in table
    assert "| layout | 1.00 | 12.5% |  |" in table
    assert "int8 onnxruntime: 25." in table
    assert " ~ ms, 30.0 with the profiler" in table
