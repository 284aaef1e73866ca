"""Each quantizer writes a quantized file of the same function; one that is missing says how to install it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefel.bench.quantizers import tools
from edgefel.bench.quantizers.tools import BATCH, Tool, all_settings

IMAGES = np.random.default_rng(0).standard_normal((BATCH + 3, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def fp32(tmp_path):
    """Two convolutions; the names are those of an export."""
    rng = np.random.default_rng(1)
    shapes = {"a": (16, 3, 3, 3), "b": (8, 16, 3, 3)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32) / 5, n) for n, s in shapes.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "a"], ["first"], "encoder.a/Conv"),
            helper.make_node("Relu", ["first"], ["second"], "encoder.a/Relu"),
            helper.make_node("Conv", ["second", "b"], ["logits"], "encoder.b/Conv"),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 8, 12, 12])],
        weights,
    )
    path = tmp_path / "fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.mark.parametrize("setting", all_settings("percentile"), ids=lambda one: one.name)
def test_a_setting_writes_int8_that_agrees(setting, fp32, tmp_path):
    if (reason := setting.tool.unavailable_reason()) is not None:
        pytest.skip(f"{setting.tool.name}: {reason}")
    from edgefel.export.parity.compare import sqnr_db
    from edgefel.export.parity.gate import onnx_outputs

    output = tmp_path / "int8.onnx"
    setting.quantize(fp32, IMAGES, output)
    model = onnx.load(output)
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    before, after = (onnx_outputs(path, [IMAGES], outputs=["logits"])["logits"] for path in (fp32, output))
    assert 20 < sqnr_db(before, after) < 60
    assert setting.tool.version


def test_a_tool_that_is_missing_says_how_to_install_it():
    assert tools.ONNXRUNTIME.unavailable_reason() is None
    missing = Tool("Magic", "edgefel_magic", "magic", "magic[onnx]")
    assert missing.unavailable_reason() == "not installed; run: pip install 'magic[onnx]'"
    assert missing.version is None


def test_onnx_runtimes_reader_gives_every_image_once_and_again_in_ranges():
    reader = tools._Reader(IMAGES)
    assert len(reader) == len(IMAGES)
    for start, end in ((0, len(IMAGES)), (BATCH, len(IMAGES)), (0, 1)):
        reader.set_range(start, end)
        read = [batch["image"] for batch in iter(reader.get_next, None)]
        np.testing.assert_array_equal(np.concatenate(read), IMAGES[start:end])


def test_seconds_are_those_of_quantizing_in_another_process(fp32, tmp_path):
    from edgefel.workers import worker_pool

    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "int8.onnx"
    with worker_pool(1) as pool:
        task = pool.submit(
            tools.timed, all_settings("minmax")[0].quantize, fp32, tmp_path / "images.npy", output
        )
        assert task.result() > 0
    assert output.is_file()
    assert output.with_suffix(".log").is_file()
