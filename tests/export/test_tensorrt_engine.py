"""A real TensorRT parses and builds what the exporter writes."""

from __future__ import annotations

import importlib.util

import onnx
import pytest
from exported import anchors_of, random_batch, tiny_graph, tiny_model

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.placement import TENSORRT, place
from edgefel.calib.quantize import quantize
from edgefel.errors import EdgefelError
from edgefel.export.onnx_graph import save_onnx
from edgefel.export.precision import float32_nodes, to_half
from edgefel.export.progress import Progress
from edgefel.export.tensorrt_engine import PACKAGES, EngineOptions, build_engine, load_tensorrt

pytestmark = pytest.mark.skipif(
    not any(importlib.util.find_spec(package) for package in PACKAGES),
    reason="no TensorRT installed; pip install edgefel[rtx] brings one that builds without a GPU",
)


def graph_of(precision: str) -> onnx.ModelProto:
    graph = tiny_graph()
    if precision == "int8+fp16":
        placement = place(graph, TENSORRT)
        found = collect_activations(graph, placement.activations, [random_batch(4)])
        graph = quantize(graph, placement, activation_scales(found, "minmax"))
    if precision != "fp32":
        graph, _ = to_half(graph, float32_nodes(graph, anchors_of(tiny_model())))
    return graph


class Recorder(Progress):
    steps = 0

    def advance(self, units: int = 1) -> None:
        self.steps += units


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8+fp16"])
def test_builds(precision, tmp_path):
    save_onnx(graph_of(precision), tmp_path / "model.onnx")
    progress = Recorder()
    options = EngineOptions(opt_batch=2, max_batch=4)
    entry = build_engine(tmp_path / "model.onnx", tmp_path / "model.engine", options, progress)
    assert (tmp_path / "model.engine").stat().st_size > 100_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.engine", "model.onnx"]
    assert entry["package"] in PACKAGES
    assert entry["version"]
    assert entry["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert entry["layers"] > 100
    assert progress.steps > 0


def test_an_unknown_operator_is_named_with_its_node(tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(tiny_graph())
    node = next(n for n in model.graph.node if n.op_type == "Gelu")
    node.op_type, node.domain = "NotAnOperator", "some.vendor"
    model.opset_import.append(onnx.helper.make_opsetid("some.vendor", 1))
    save_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(EdgefelError) as caught:
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
    assert node.name in str(caught.value)
    assert "NotAnOperator" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.engine").exists()


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EdgefelError, match="cannot parse it"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()


@pytest.mark.parametrize(("opt", "largest"), [(0, 4), (5, 4)])
def test_batch_sizes_are_checked(opt, largest):
    with pytest.raises(EdgefelError, match="1 <= opt <= max"):
        EngineOptions(opt_batch=opt, max_batch=largest)


def test_the_package_in_use_is_one_of_the_two():
    assert load_tensorrt().__name__ in PACKAGES
