"""Fake quantization against the ONNX operators, the exporter's weights, and the definition of its gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper

from edgefel.calib.quantize import quantize_weight
from edgefel.export.qat.fake_quant import fake_quantize, fake_quantize_weight, quantized_weight


def onnx_fake_quantize(x: np.ndarray, scale: np.float32) -> np.ndarray:
    tensors = [
        helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [scale]),
        helper.make_tensor("zero", onnx.TensorProto.INT8, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.0123456789, 3.3e-5, 7.7])
@pytest.mark.parametrize("shape", [(1,), (3, 7, 5), (2, 111, 1, 3)])
def test_forward_is_quantize_and_dequantize_to_the_bit(scale, shape):
    step = np.float32(scale)
    x = np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32) * 90 * step
    ties = (np.arange(-140, 140, dtype=np.float32) + np.float32(0.5)) * step
    for values in (x, ties):
        found = fake_quantize(torch.from_numpy(values), torch.tensor(step)).numpy()
        assert np.array_equal(found, onnx_fake_quantize(values, step))


def test_gradients_are_those_of_the_straight_through_estimator_and_of_lsq():
    scale = torch.tensor(0.25, requires_grad=True)
    x = torch.tensor([-40.0, -32.1, -32.0, -1.03, 0.0, 0.3, 31.7, 31.9, 50.0], requires_grad=True)
    weights = torch.arange(1.0, 10.0)
    (fake_quantize(x, scale) * weights).sum().backward()
    steps = x.detach().double() / 0.25
    rounded = steps.round()
    inside = (rounded >= -128) & (rounded <= 127)
    assert torch.equal(x.grad, weights * inside)
    # LSQ (arXiv 1902.08153) equation 3
    slopes = torch.where(inside, rounded - steps, rounded.clamp(-128, 127))
    torch.testing.assert_close(scale.grad.double(), (slopes * weights).sum(), rtol=1e-6, atol=1e-6)
    assert not inside.all()


def test_a_constant_scale_needs_no_gradient():
    x = torch.tensor([0.3, 900.0], requires_grad=True)
    fake_quantize(x, torch.tensor(0.1)).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", [(5, 3), (7, 3, 3, 3), (13, 1, 3, 3), (1, 111)])
def test_weights_are_the_exporters_to_the_bit(shape):
    weight = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) ** 3
    weight[0] = 0.0  # a channel of zeros
    values, scales = quantize_weight(weight, 0)
    found, found_scales = quantized_weight(torch.from_numpy(weight))
    assert np.array_equal(found.numpy(), values)
    assert np.array_equal(found_scales.numpy().ravel(), scales)
    tensor = torch.from_numpy(weight).requires_grad_()
    fake = fake_quantize_weight(tensor)
    wide = scales.reshape(-1, *[1] * (len(shape) - 1))
    assert np.array_equal(fake.detach().numpy(), values.astype(np.float32) * wide)
    (fake * 3.0).sum().backward()
    assert (tensor.grad == 3.0).all()
