"""YuNet's graph in fewer bits: what is quantized, and what it still computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from yunet_like import yunet_like

from edgefel.calib.graph import GraphIndex
from edgefel.errors import EdgefelError
from edgefel.export.precision.detector import detector_graph, half_detector, int8_detector
from edgefel.runtime.backends.onnxruntime_backend import session_options

YUNET = Path(__file__).parents[4] / "shared" / "data" / "yunet.onnx"


@pytest.fixture
def real():
    if not YUNET.is_file():
        pytest.skip(f"no {YUNET.name} in ../shared/data")
    return YUNET


def run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": x}), strict=True))


def smooth(count: int, height: int = 120, width: int = 150) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 256, (height // 30, width // 30, 3)), np.ones((30, 30, 1))).astype(np.uint8)
        for _ in range(count)
    ]


def test_another_opset_computes_the_same_bits(real):
    x = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 64)).astype(np.float32)
    before, after = run(onnx.load(real), x), run(detector_graph(real.read_bytes()), x)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_fp16_is_near(real):
    graph = detector_graph(real.read_bytes())
    half = half_detector(graph)
    x = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 64)).astype(np.float32)
    before, after = run(graph, x), run(half, x)
    for name in before:
        assert after[name].dtype == np.float32
        np.testing.assert_allclose(
            after[name], before[name], atol=0.02 * max(1.0, np.abs(before[name]).max())
        )
    assert half.ByteSize() < 0.6 * graph.ByteSize()


def test_int8_leaves_the_first_layer_and_the_head(real):
    graph = detector_graph(real.read_bytes())
    model, placement = int8_detector(graph, smooth(3))
    index, whole = GraphIndex(model.graph), GraphIndex(graph.graph)
    first = whole.consumers["input"][0].name
    last = {
        node.name
        for node in whole.order
        if node.op_type == "Conv"
        and whole.only_reader(node.output[0])
        and whole.only_reader(node.output[0]).op_type == "Transpose"
    }
    assert placement.kept_float[first] == "reads the image"
    assert len(last) == 12
    assert last <= {name for name, why in placement.kept_float.items() if why == "behind the last activation"}
    assert len(placement.nodes) + len(placement.kept_float) == sum(n.op_type == "Conv" for n in whole.order)
    for node in index.order:
        if node.op_type == "Conv":
            quantized = [index.producer(name, "DequantizeLinear") is not None for name in node.input[:2]]
            assert quantized == [node.name in placement.nodes] * 2
    scales = [
        numpy_helper.to_array(index.initializers[node.input[1]])
        for node in index.order
        if node.op_type.endswith("quantizeLinear") or node.op_type == "QuantizeLinear"
    ]
    assert scales
    assert all(values.dtype == np.float16 and (values > 0).all() for values in scales)
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {
        TensorProto.FLOAT
    }


def test_what_is_no_yunet(tmp_path):
    with pytest.raises(EdgefelError, match="its ONNX file cannot be read"):
        detector_graph(b"nothing")
    graph = detector_graph(yunet_like(tmp_path / "yunet.onnx").read_bytes())
    with pytest.raises(EdgefelError, match="no Conv, Gemm or MatMul that it would quantize"):
        int8_detector(graph, smooth(1))
    assert all(node.name for node in graph.graph.node)
