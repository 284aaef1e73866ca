"""The measuring command: it compares before it times, and counts what changed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_graphs import images, plain_graph

from edgefel.bench.experiments.surgery_effect import measure
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import apply_passes


def test_a_row():
    image = images(1)
    merged, _ = apply_passes(plain_graph(), ["merge-moves"])
    row = measure("merge-moves", (plain_graph(), image), (merged, image), runs=2)
    assert row["nodes"]["without"] - row["nodes"]["with"] == 8
    assert row["macs"]["without"] == row["macs"]["with"] > 1e7
    assert row["input_bytes"] == {"without": 602112, "with": 602112}
    assert set(row["max_deviation"].values()) == {0.0}
    assert row["runs"] == 2
    assert row["latency_ratio"] == row["ms_p50"]["with"] / row["ms_p50"]["without"]


def test_graphs_that_disagree_are_not_timed():
    other = onnx.ModelProto()
    other.CopyFrom(plain_graph())
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "head.reduce.bias")
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    with pytest.raises(EdgefelError, match="broken: output .* differs by .*; nothing was timed"):
        measure("broken", (plain_graph(), images(1)), (other, images(1)), runs=2)
