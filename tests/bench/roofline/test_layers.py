"""Work and bytes of small graphs, counted by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from counted_graphs import nano_graphs
from small_graphs import make_model, node

from edgefel.bench.roofline.graph import read_network
from edgefel.bench.roofline.layers import LayerWork, fused_layers, unfused_layers
from edgefel.calib.graph import node_macs
from edgefel.export.precision.half import to_half


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def fused(model: onnx.ModelProto, batch: int = 1) -> tuple[LayerWork, ...]:
    return fused_layers(read_network(model, batch))


def unfused(model: onnx.ModelProto, batch: int = 1) -> tuple[LayerWork, ...]:
    return unfused_layers(read_network(model, batch))


def moved(layer: LayerWork) -> tuple[int, int, int]:
    return layer.weight_bytes, layer.read_bytes, layer.written_bytes


def conv_model(groups: int = 1) -> onnx.ModelProto:
    """3x3 of 8 channels to 8 on 10x10, without padding: 8x8."""
    return make_model(
        [node("Conv", "x w b", "y", group=groups)],
        {"x": ["N", 8, 10, 10]},
        {"y": ["N", 8, 8, 8]},
        {"w": ones(8, 8 // groups, 3, 3), "b": ones(8)},
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_a_convolution(batch):
    (layer,) = fused(conv_model(), batch)
    assert layer.macs == batch * 8 * 8 * 8 * (8 * 3 * 3)
    assert layer.matrix == {"fp32": 2 * layer.macs}
    assert layer.vector == {}
    assert moved(layer) == (4 * (8 * 8 * 9 + 8), batch * 4 * 8 * 100, batch * 4 * 8 * 64)
    assert layer.intensity == layer.operations / layer.bytes
    assert (layer.op, layer.precision) == ("Conv", "fp32")


def test_a_depthwise_convolution_has_an_eighth_of_the_work_and_weights():
    (layer,) = fused(conv_model(groups=8))
    assert layer.macs == 8 * 8 * 8 * 9
    assert moved(layer) == (4 * (8 * 9 + 8), 4 * 8 * 100, 4 * 8 * 64)


def test_a_gemm_with_transposed_weights():
    model = make_model(
        [node("Gemm", "x w b", "y", transB=1)],
        {"x": ["N", 5]},
        {"y": ["N", 7]},
        {"w": ones(7, 5), "b": ones(7)},
    )
    (layer,) = fused(model, 4)
    assert layer.macs == 4 * 7 * 5
    assert moved(layer) == (4 * (35 + 7), 4 * 4 * 5, 4 * 4 * 7)


def test_a_product_of_two_activations_has_no_weights():
    model = make_model(
        [node("MatMul", "a b", "y")], {"a": ["N", 6, 5], "b": ["N", 5, 9]}, {"y": ["N", 6, 9]}, {}
    )
    (layer,) = fused(model, 2)
    assert layer.macs == 2 * 6 * 9 * 5
    assert moved(layer) == (0, 2 * 4 * (30 + 45), 2 * 4 * 54)


def test_half_precision_moves_half_the_bytes():
    half, _ = to_half(conv_model(), ())
    layers = fused(half)
    (layer,) = [one for one in layers if one.macs]
    assert layer.matrix == {"fp16": 2 * layer.macs}
    assert layer.weight_bytes == 2 * (8 * 8 * 9 + 8)
    # the input is cast in front of it, and the output behind it, where it is made
    assert layer.read_bytes == 2 * 8 * 100
    assert [one.op for one in layers] == ["Cast", "Conv"]
    assert moved(layers[0]) == (0, 4 * 8 * 100, 2 * 8 * 100)


def quantized_conv(out_scale: bool = True) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv of an INT8 weight (per channel) -> Q -> DQ -> y; without the last pair if not asked for."""
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "w ws wz", "wd", axis=0),
        node("Conv", "xd wd b", "c" if out_scale else "y"),
    ]
    if out_scale:
        nodes += [node("QuantizeLinear", "c s z", "cq"), node("DequantizeLinear", "cq s z", "y")]
    return make_model(
        nodes,
        {"x": ["N", 8, 10, 10]},
        {"y": ["N", 8, 8, 8]},
        {
            "s": np.float32(0.1),
            "z": np.int8(0),
            "w": np.ones((8, 8, 3, 3), np.int8),
            "ws": ones(8),
            "wz": np.zeros(8, np.int8),
            "b": ones(8),
        },
    )


@pytest.mark.parametrize("layers_of", [fused, unfused])
def test_a_convolution_between_q_and_dq_is_int8_and_moves_bytes(layers_of):
    first, layer = layers_of(quantized_conv())
    assert first.op == "QuantizeLinear"
    assert moved(first) == (0, 4 * 800, 800)
    assert layer.matrix == {"int8": 2 * 8 * 8 * 8 * 72}
    # the bias stays FP32; what is written is the caller's y, which is seen through the DequantizeLinear
    assert moved(layer) == (8 * 8 * 9 + 4 * 8, 800, 512)


def test_a_result_that_is_not_quantized_is_written_as_it_is():
    _, layer = fused(quantized_conv(out_scale=False))
    assert layer.precision == "int8"
    assert layer.written_bytes == 4 * 512


def test_a_product_with_one_quantized_operand_is_float():
    model = make_model(
        [node("DequantizeLinear", "w s z", "wd"), node("MatMul", "x wd", "y")],
        {"x": ["N", 6, 4]},
        {"y": ["N", 6, 3]},
        {"w": np.ones((4, 3), np.int8), "s": np.float32(1), "z": np.int8(0)},
    )
    (layer,) = fused(model)
    assert layer.matrix == {"fp32": 2 * 6 * 3 * 4}
    assert layer.weight_bytes == 12


def residual() -> onnx.ModelProto:
    return make_model(
        [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Relu", "a", "r"),
            node("Conv", "r w", "b", pads=[1, 1, 1, 1]),
            node("Add", "b x", "y"),
        ],
        {"x": ["N", 8, 10, 10]},
        {"y": ["N", 8, 10, 10]},
        {"w": ones(8, 8, 3, 3)},
    )


def test_a_residual_is_read_by_the_layer_that_adds_it():
    weights, image = 4 * 8 * 8 * 9, 4 * 800
    first, second = fused(residual())
    assert (first.op, second.op) == ("Conv+Relu", "Conv+Add")
    assert moved(first) == (weights, image, image)
    assert moved(second) == (weights, 2 * image, image)
    assert first.vector == second.vector == {"fp32": 800}


def test_unfused_every_node_reads_and_writes():
    image = 4 * 800
    layers = unfused(residual())
    assert [layer.op for layer in layers] == ["Conv", "Relu", "Conv", "Add"]
    assert [layer.read_bytes for layer in layers] == [image, image, image, 2 * image]
    assert [layer.written_bytes for layer in layers] == [image] * 4


def test_a_sum_that_two_layers_read_is_written_once_and_read_twice():
    model = make_model(
        [
            node("MatMul", "x w", "a"),
            node("Add", "a x", "s"),
            node("MatMul", "s w", "b"),
            node("Add", "b s", "y"),
        ],
        {"x": ["N", 6, 4]},
        {"y": ["N", 6, 4]},
        {"w": ones(4, 4)},
    )
    first, second = fused(model)
    assert moved(first) == (64, 96, 96)
    assert moved(second) == (64, 96, 96)


def attention(second_reader: bool = False, more: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """v is made after the scores, and k is transposed; optionally the caller wants the probabilities, and more nodes
    make y of the product a."""
    return make_model(
        [
            node("MatMul", "x wk", "k"),
            node("Transpose", "k", "kt", perm=[0, 2, 1]),
            node("MatMul", "x kt", "scores"),
            node("Add", "scores bias", "biased"),
            node("Softmax", "biased", "p", axis=-1),
            node("MatMul", "x wv", "v"),
            node("MatMul", "p v", "a" if more else "y"),
            *more,
        ],
        {"x": ["N", 16, 4]},
        {"y": ["N", 16, 4], **({"p": ["N", 16, 16]} if second_reader else {})},
        {"wk": ones(4, 4), "wv": ones(4, 4), "bias": ones(16, 16)},
    )


def test_scores_never_leave_an_attention_layer():
    keys, values, layer = fused(attention())
    tokens = 4 * 16 * 4
    assert (keys.op, values.op, layer.op) == ("MatMul", "MatMul", "MatMul+Add+Softmax+MatMul")
    assert layer.macs == 2 * 16 * 16 * 4
    assert layer.vector == {"fp32": 256 + 5 * 256}
    assert moved(layer) == (4 * 256, 3 * tokens, tokens)


def test_what_comes_after_attention_joins_the_layer_it_waits_for():
    more = [node("MatMul", "a wk", "o"), node("Add", "o a", "y")]
    layers = fused(attention(more=more))
    assert [layer.op for layer in layers] == ["MatMul", "MatMul", "MatMul+Add+Softmax+MatMul", "MatMul+Add"]


def test_probabilities_that_someone_else_wants_are_written():
    layers = fused(attention(second_reader=True))
    assert [layer.op for layer in layers] == ["MatMul", "MatMul+Add+Softmax", "MatMul", "MatMul"]
    assert layers[1].written_bytes == 4 * 256


def test_moving_data_costs_what_the_reader_needs():
    model = make_model(
        [
            node("Slice", "x start end axis", "part"),
            node("Reshape", "part shape", "flat"),
            node("MatMul", "flat w", "y"),
        ],
        {"x": ["N", 8, 4]},
        {"y": ["M", 4]},
        {
            "start": np.array([0]),
            "end": np.array([2]),
            "axis": np.array([1]),
            "shape": np.array([-1, 4]),
            "w": ones(4, 4),
        },
    )
    (layer,) = fused(model, 3)
    assert layer.read_bytes == 3 * 4 * 2 * 4
    moving, product = unfused(model, 3)
    assert moving.op == "Slice"
    assert moved(moving) == (0, 3 * 4 * 8 * 4, 3 * 4 * 2 * 4)
    assert product.read_bytes == 3 * 4 * 2 * 4


def test_joined_parts_are_read_where_they_are():
    model = make_model(
        [
            node("Relu", "x", "a"),
            node("MatMul", "x w", "b"),
            node("Concat", "a b", "both", axis=1),
            node("Softmax", "both", "y"),
        ],
        {"x": ["N", 3, 4]},
        {"y": ["N", 6, 4]},
        {"w": ones(4, 4)},
    )
    layers = fused(model)
    assert [layer.op for layer in layers] == ["Relu", "MatMul", "Softmax"]
    assert layers[2].read_bytes == 2 * 48


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_a_real_network_has_the_macs_that_the_calibration_counts(precision):
    model = nano_graphs()[precision]
    expected = sum(node_macs(model).values())
    for batch in (1, 4):
        for layers in (fused(model, batch), unfused(model, batch)):
            assert sum(layer.macs for layer in layers) == batch * expected
    by_type = Counter()
    for layer in fused(model):
        by_type.update(layer.matrix)
    assert set(by_type) == set(precision.split("+")) | ({"fp32"} if precision == "int8" else set())


@pytest.mark.parametrize("precision", ["int8", "int8+fp16"])
def test_attention_of_int8_graphs_stays_float(precision):
    layers = [layer for layer in fused(nano_graphs()[precision]) if "Softmax+MatMul" in layer.op]
    assert len(layers) == 5
    assert {layer.precision for layer in layers} == {"fp16" if precision == "int8+fp16" else "fp32"}


def test_every_node_is_in_one_layer_and_bytes_only_shrink_by_fusing():
    model = nano_graphs()["fp32"]
    joined, single = fused(model), unfused(model)
    assert len(joined) < len(single) / 2
    for name in ("read_bytes", "written_bytes"):
        assert sum(getattr(layer, name) for layer in joined) < sum(getattr(layer, name) for layer in single)
