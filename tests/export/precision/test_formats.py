"""FP8 and weight-only graphs: which nodes, which opset, which values, and that TensorRT for RTX builds them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.formats import E4M3_MAX, e4m3_bits, e4m3_values
from edgefel.calib.graph import GraphIndex, attribute
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import gather_prelu
from edgefel.export.onnx.rewrite import opset_of
from edgefel.export.onnx.trace import serialize
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.parity.gate import onnx_outputs
from edgefel.export.precision.formats import FORMATS, place_format, write_format
from edgefel.export.precision.precisions import Ranges, make_graphs
from edgefel.export.tensorrt.engine import EngineOptions, build_engine

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"
FACES = np.random.default_rng(3).standard_normal((3, 3, 112, 112)).astype(np.float32)
LEAST_SQNR = {"fp8": 18.0, "w8a16": 35.0, "w4a16": 25.0}


def source() -> onnx.ModelProto:
    return gather_prelu(onnx.load(BUNDLE / "model.fp32.onnx"))[0]


def calibrated(graph, activations, method="mse"):
    """The largest values on the faces, as INT8 scales; only FP8 asks for them."""
    assert method == "minmax"
    from edgefel.calib.collect import activation_scales, collect_activations

    return Ranges(
        activation_scales(collect_activations(graph, activations, [FACES]), method), {"method": method}
    )


@functools.cache
def made():
    index = GraphIndex(source().graph)
    anchors = numpy_helper.to_array(index.initializers["head/Sub.constant1"])
    return make_graphs(source(), FORMATS, anchors=anchors, calibrate=calibrated)


@pytest.mark.parametrize("precision", FORMATS)
def test_the_file_agrees_with_fp32(precision):
    before = onnx_outputs(serialize(source()), [FACES])["logits"]
    after = onnx_outputs(serialize(made()[precision].model), [FACES], optimize=precision != "fp8")["logits"]
    assert sqnr_db(before, after) > LEAST_SQNR[precision]


@pytest.mark.parametrize(
    ("precision", "stored", "opset", "ir"),
    [
        ("fp8", TensorProto.FLOAT8E4M3FN, 20, 9),
        ("w8a16", TensorProto.INT8, 20, 9),
        ("w4a16", TensorProto.INT4, 21, 10),
    ],
)
def test_weights_are_stored_in_the_format_and_the_opset_has_it(precision, stored, opset, ir):
    one = made()[precision]
    model, index = one.model, GraphIndex(one.model.graph)
    assert (opset_of(model), model.ir_version) == (opset, ir)
    weights = [
        node
        for node in index.order
        if node.op_type == "DequantizeLinear" and node.input[0] in index.initializers
    ]
    assert len(weights) == one.builder[f"{precision}_nodes"] > 0
    for node in weights:
        scale = index.initializers[node.input[1]]
        assert index.initializers[node.input[0]].data_type == stored
        assert scale.data_type == TensorProto.FLOAT16
        assert len(scale.dims) == (2 if precision == "w4a16" else 1)
        assert attribute(node, "block_size", 0) == (64 if precision == "w4a16" else 0)
    quantizers = [node for node in index.order if node.op_type == "QuantizeLinear"]
    assert bool(quantizers) == (precision == "fp8")
    assert all(index.initializers[node.input[2]].data_type == stored for node in quantizers)
    # in proportion to what the format saves
    assert model.ByteSize() < serialize_size(source())


def serialize_size(model: onnx.ModelProto) -> int:
    return len(serialize(model))


def test_an_fp8_layer_computes_what_its_bits_say():
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((24, 20)).astype(np.float32)
    image = rng.standard_normal((2, 24)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "w"], ["y"], "encoder.x/MatMul")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 20])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    int8_scale = np.float32(np.abs(image).max() / 127)
    written = write_format(model, place_format(model, "fp8"), {"image": int8_scale})
    (actual,) = onnx_outputs(serialize(written), [image], outputs=["y"], optimize=False).values()

    def rounded(values, scale):
        return e4m3_values(e4m3_bits(values / scale)) * scale

    own = GraphIndex(written.graph)
    scales = {
        name: numpy_helper.to_array(own.initializers[name]).astype(np.float64)
        for name in ("image.scale", "w.scale")
    }
    np.testing.assert_allclose(scales["image.scale"], np.abs(image).max() / E4M3_MAX, rtol=1e-3)
    expected = rounded(image, scales["image.scale"]) @ rounded(weight, scales["w.scale"])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_every_layer_that_stays_in_float_has_its_reason():
    reasons = {name: made()[name].builder["float_nodes"] for name in FORMATS}
    convolutions = [node.name for node in source().graph.node if node.op_type == "Conv"]
    for name in ("w8a16", "w4a16"):
        assert all("matrix products alone" in reasons[name][conv] for conv in convolutions)
    # the first convolution has three channels
    assert "17 channels or more" in reasons["fp8"][convolutions[0]]
    assert any("no multiple of 64" in reason for reason in reasons["w4a16"].values())
    assert any(name.startswith("head") for name in reasons["fp8"])


def test_a_graph_without_a_layer_for_the_format_is_refused():
    weight = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["y"], "encoder.stem/Conv")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(
        EdgefelError, match=r"precision w4a16: the graph has no layer that it is for \(TensorRT has"
    ):
        place_format(model, "w4a16")


@pytest.mark.parametrize(
    ("precision", "target", "counted"), [("fp8", "sm_89", "fp8"), ("w4a16", "sm_86", "fp16")]
)
def test_tensorrt_for_rtx_builds_it_for_gpus_that_have_the_format(tmp_path, precision, target, counted):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install 'edgefel[rtx]'")
    path = tmp_path / "model.onnx"
    path.write_bytes(serialize(made()[precision].model))
    options = EngineOptions(max_batch=1, compute_capabilities=(target,))
    builder = build_engine(path, tmp_path / "model.engine", options)
    assert (tmp_path / "model.engine").stat().st_size > 0
    assert builder["layer_report"]["precisions"][counted] > 0


@pytest.mark.parametrize(("precision", "target"), [("fp8", "sm_86"), ("w4a16", "sm_75")])
def test_tensorrt_for_rtx_refuses_what_the_table_of_gpus_says_it_does(tmp_path, precision, target):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install 'edgefel[rtx]'")
    path = tmp_path / "model.onnx"
    path.write_bytes(serialize(made()[precision].model))
    with pytest.raises(EdgefelError, match="HW-specific datatypes"):
        build_engine(
            path, tmp_path / "model.engine", EngineOptions(max_batch=1, compute_capabilities=(target,))
        )
