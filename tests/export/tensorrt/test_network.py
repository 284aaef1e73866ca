"""What TensorRT's parser refuses is said node by node."""

from __future__ import annotations

import onnx
import pytest
import tiny_bundle
from exported import HAS_TENSORRT, tiny_graph

from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import save_onnx
from edgefel.export.tensorrt.engine import build_engine

pytestmark = pytest.mark.skipif(
    not HAS_TENSORRT,
    reason="no TensorRT installed; pip install edgefel[rtx] brings one that builds without a GPU",
)


def test_every_node_that_is_refused_is_named_with_its_operator(tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(tiny_graph())
    foreign = [n for n in model.graph.node if n.op_type == "Gelu"][:2]
    for node in foreign:
        node.op_type, node.domain = "NotAnOperator", "some.vendor"
    unsupported = next(n for n in model.graph.node if n.op_type == "Softmax")
    unsupported.op_type = "Det"
    model.opset_import.append(onnx.helper.make_opsetid("some.vendor", 1))
    save_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(EdgefelError) as caught:
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
    text = str(caught.value)
    assert f"node '{foreign[0].name}', node '{foreign[1].name}' (NotAnOperator): " in text
    assert f"node '{unsupported.name}' (Det): unsupported node" in text
    assert "export with another --opset" in text
    assert "\n" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EdgefelError, match="cannot parse it.*Export or copy it again"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()


def test_a_model_with_another_input_is_refused(tmp_path):
    onnx.save(tiny_bundle.tiny_model(input_name="frame"), tmp_path / "model.onnx")
    with pytest.raises(EdgefelError, match="takes frame and not image"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")


def test_a_parser_error_without_a_node_is_said_too(tmp_path):
    model = tiny_bundle.tiny_model()
    first = model.graph.node[0]
    first.input[0] = "nowhere"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(EdgefelError, match=f"cannot parse it.*{first.name or first.op_type}"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
