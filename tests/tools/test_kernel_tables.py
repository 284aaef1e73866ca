"""Tables of bounds: levels beside each other, and the sum of the backward pass."""

from __future__ import annotations

import kernel_tables
from kernel_tables import kernel_before, kernel_bounds, kernel_bounds_others


def row(kernel, mode="backward", problem="level 1", target="sm_90", batch=256, us=1.0, **more):
    named = {"implementation": "edgefel", "op": "window_cross_attention", "kernel": f"{kernel}_kernel"}
    where = {"mode": mode, "problem": problem, "target": target, "batch": batch}
    return {**named, **where, "bound_us": us, "bound_by": "issue", "programs": 7, **more}


def lines(table):
    return {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in table.splitlines()}


def test_launches_of_the_backward_pass_are_added_up_by_level():
    rows = [row("dense", "forward", us=50.0), row("bias", us=0.25), row("backward_q", us=3.0)]
    rows += [{**each, "problem": "level 2", "bound_us": each["bound_us"] / 10} for each in rows]
    # another batch is not shown, and other implementations are not added
    rows += [row("backward_q", batch=1, us=100.0), row("flex", us=99.0, implementation="flex")]
    found = lines(kernel_bounds(rows))
    assert found["forward: dense"] == "50.0 issue, 5.0 issue"
    assert found["backward: backward_q"] == "3.0 issue, 0.3 issue"
    assert found["backward: sum of its launches"] == "**3.2**, **0.3**"
    assert found["flex"] == "99.0 issue"


def test_other_ops_have_their_programs():
    rows = [row("patch", "forward", "9 to 4", us=1.234, op="pool_patches"), row("dense", "forward")]
    found = lines(kernel_bounds_others(rows))
    assert found["`pool_patches` 9 to 4, forward: patch"] == "1.23 issue (7)"
    assert not any("dense" in name for name in found)


def test_launches_of_a_pass_are_added_up_before_and_after(monkeypatch):
    told = {"results": "before.jsonl", "command": "a command"}
    before = [
        row("forward", "forward", us=9.0, unit="score", instructions_per_unit=20.0, **told),
        row("backward_q", us=8.0, unit="score", instructions_per_unit=30.0, **told),
        row("backward_kv", us=7.0, unit="score", instructions_per_unit=31.0, **told),
    ]
    now = [
        row("dense", "forward", us=3.0, unit="score", instructions_per_unit=10.0),
        row("bias", "forward", us=1.0, unit="entry", instructions_per_unit=99.0),
        row("backward_q", us=2.0, unit="score", instructions_per_unit=9.0),
        row("flex", "forward", us=50.0, unit="score", instructions_per_unit=50.0, implementation="flex"),
    ]
    monkeypatch.setattr(kernel_tables, "load", lambda *source: now)
    table = kernel_before(before)
    assert "| forward | 20.0 to 10.0 | 9 to 4 |" in table
    assert "| backward | 61.0 to 9.0 | 15 to 2 |" in table
