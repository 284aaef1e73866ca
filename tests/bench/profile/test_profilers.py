"""The trace of ONNX Runtime: which calls are read, and that a cut one is refused."""

from __future__ import annotations

import json

import pytest

from edgefel.bench.profile.profilers import read_trace
from edgefel.errors import EdgefelError


def trace(calls: list[tuple[int, int]]) -> bytes:
    """Of calls of two nodes that take so many microseconds."""
    events = [{"cat": "Session", "name": "session_initialization", "dur": 9, "args": {}}]
    for durations in calls:
        for index, (name, took) in enumerate(zip(("a/Conv", "b/Add"), durations, strict=True)):
            arguments = {"op_name": name[2:], "node_index": str(index)}
            events.append({"cat": "Node", "name": f"{name}_kernel_time", "dur": took, "args": arguments})
        events.append({"cat": "Session", "name": "SequentialExecutor::Execute", "dur": 1, "args": {}})
        events.append({"cat": "Session", "name": "model_run", "dur": 1, "args": {}})
    return json.dumps(events).encode()


def test_the_last_calls_are_read():
    one, two = read_trace(trace([(900, 900), (1000, 10), (3000, 30)]), 3, 2)
    assert (one.name, one.op, one.ms.tolist()) == ("a/Conv", "Conv", [1.0, 3.0])
    assert (two.name, two.op, two.ms.tolist()) == ("b/Add", "Add", [0.01, 0.03])


@pytest.mark.parametrize("kept", [2, 5])
def test_a_trace_that_lacks_calls_is_refused(kept):
    events = json.loads(trace([(1, 1), (2, 2), (3, 3)]))
    with pytest.raises(
        EdgefelError, match=r"of 3 calls whole: it stops after a million events; profile fewer --runs"
    ):
        read_trace(json.dumps(events[:-kept]).encode(), 3, 2)
