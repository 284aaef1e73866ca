"""The trace of ONNX Runtime: which calls are read, and that a cut one is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from enum import Enum
from types import SimpleNamespace

import pytest

from edgefel.bench.profile.profilers import OpenVinoProfiler, read_trace
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


class Info:
    """As OpenVINO's ProfilingInfo."""

    Status = Enum("Status", ["EXECUTED", "NOT_RUN"])

    def __init__(self, name: str, microseconds: int, executed: bool = True) -> None:
        self.node_name, self.node_type = name, "Convolution"
        self.real_time = timedelta(microseconds=microseconds)
        self.status = self.Status.EXECUTED if executed else self.Status.NOT_RUN


def test_openvinos_mean_of_all_calls_becomes_that_of_the_timed_ones():
    """Calls of 900, 100, 50 and 150 microseconds, of which the last two count: OpenVINO says 900, 500, 350 and 300."""
    means, short = iter([900, 500, 350, 300]), iter([1, 0, 0, 0])

    def infos():
        small = next(short)
        return [Info("a", next(means)), Info("b", 7, executed=False), Info("c", small, executed=small > 0)]

    request = SimpleNamespace(infer=lambda *_, **__: None, get_profiling_info=infos)
    compiled = SimpleNamespace(
        create_infer_request=lambda: request,
        get_runtime_model=lambda: SimpleNamespace(get_ordered_ops=list),
    )
    with OpenVinoProfiler(compiled, SimpleNamespace(input_name="image")) as profiler:
        for _ in range(4):
            profiler.run(None)
        node, shorter = profiler.nodes(2)
        assert len(profiler.calls) == 4
    assert (node.name, node.op, node.parts) == ("a", "Convolution", ())
    assert node.ms.tolist() == pytest.approx([0.1])
    assert (shorter.name, shorter.ms.tolist()) == ("c", [0.0])
