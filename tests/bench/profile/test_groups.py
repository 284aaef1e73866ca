"""Groups of nodes by the names and operators that ONNX Runtime and OpenVINO give them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgefel.bench.profile.groups import Attribution
from edgefel.calib.graph import node_macs
from edgefel.export.onnx.passes import spread_batch_norms

FILE = Path(__file__).parents[2] / "bundles/nano-synthetic/model.fp32.onnx"
STAGE = "encoder.image_stream.stages.0.0"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return spread_batch_norms(onnx.load(FILE))[0]


@pytest.fixture(scope="module")
def attribution(model) -> Attribution:
    return Attribution(model)


@pytest.mark.parametrize(
    ("name", "op", "group"),
    [
        # ONNX Runtime
        (f"{STAGE}.residual.1/Conv:0_nchwc", "Conv", "products"),
        (f"{STAGE}.residual.1/Conv_token_5", "QLinearConv", "products"),
        (f"{STAGE}.residual.2/Mul:0_mul_nchwc", "Conv", "activations"),
        (f"{STAGE}.residual.2/Max", "Max", "activations"),
        (f"{STAGE}.residual.0/Mul", "Mul", "normalization"),
        (f"{STAGE}.residual.0/Add", "Add", "normalization"),
        (f"{STAGE}/Add", "Add", "other"),
        ("encoder.levels.0.attention.kv/MatMul", "MatMulIntegerToFloat", "products"),
        ("encoder.levels.0.attention/MatMul/MatMulScaleFusion/", "FusedMatMul", "attention"),
        ("encoder.levels.0.attention/Softmax", "Softmax", "attention"),
        ("encoder.levels.0.attention/MatMul_2", "MatMul", "attention"),
        ("encoder.levels.0.attention/Transpose_2", "Transpose", "layout"),
        ("BiasGelu_token_1", "BiasGelu", "activations"),
        ("QuantizeLinear", "QuantizeLinear", "copies"),
        ("ReorderInput_token_13", "ReorderInput", "layout"),
        ("fused head.classifier.0/Gemm", "FusedGemm", "head"),
        ("head/Softmax", "Softmax", "head"),
        ("head/Reshape", "Reshape", "head"),
        # OpenVINO
        (f"{STAGE}.residual.3/Conv/WithoutBiases", "Convolution", "products"),
        ("encoder.levels.0.mlp.fc1/Add", "FullyConnected", "products"),
        ("primary", "Softmax", "head"),
        ("Multiply_920", "RMS", "normalization"),
        ("Subtract_10113_acdb_abcd_Multiply_920", "Reorder", "layout"),
        ("Multiply_11526", "Subgraph", "other"),
    ],
)
def test_groups(attribution, name, op, group):
    assert attribution.group(name, op) == group


@pytest.mark.parametrize(
    ("parts", "group"),
    [
        (["attention/MatMul", "attention/Add", "attention/Softmax", "attention/MatMul_2"], "attention"),
        (["mlp.fc1/Add", "mlp.act/Gelu"], "activations"),
        (["/Add"], "other"),
    ],
)
def test_an_elementwise_kernel_is_of_the_group_of_what_it_was_fused_from(attribution, parts, group):
    names = [f"encoder.levels.0{'' if part.startswith('/') else '.'}{part}" for part in parts]
    assert attribution.group("Subgraph_7", "Subgraph", names) == group


def test_multiply_accumulates_of_all_groups_are_those_of_the_network(model, attribution):
    macs = attribution.macs()
    assert sum(macs.values()) == sum(node_macs(model).values())
    assert macs["products"] > macs["attention"] > 0
    assert macs["copies"] == macs["layout"] == macs["other"] == 0


def test_names_that_the_runtime_made_up(attribution):
    made_up = ("BiasGelu_token_1", "QuantizeLinear", "Transpose_token_416", "Multiply_920")
    assert all(attribution.generated(name) for name in made_up)
    assert not attribution.generated("encoder.levels.0/Add")
