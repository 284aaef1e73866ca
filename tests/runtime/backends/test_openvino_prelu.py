"""PReLUs that OpenVINO fuses: which are written, that outputs do not change, and that no kernel is left for them."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.runtime.backends.openvino_backend import compile_options
from edgefel.runtime.backends.openvino_prelu import own_prelus

openvino = pytest.importorskip("openvino", reason="needs OpenVINO; pip install edgefel[openvino]")
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenVINO is taken on x86 processors alone"
)
CHANNELS, SIDE = 16, 9
SLOPES = np.linspace(-0.5, 1.0, CHANNELS, dtype=np.float32)
SPREAD = (
    helper.make_node("Mul", ["y", "a"], ["ay"], "Mul"),
    helper.make_node("Max", ["y", "ay"], ["z"], "Max"),
)


def network(nodes: Sequence[NodeProto], slopes: np.ndarray, outputs: Sequence[str] = ("z",)):
    """x -> Conv -> y -> the nodes, of which "a" is the slopes, as OpenVINO reads it; W is not C."""
    weight = np.random.default_rng(0).standard_normal((CHANNELS, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "Conv", pads=[1] * 4), *nodes],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(slopes, "a")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return openvino.Core().read_model(model.SerializeToString())


def run(model) -> tuple[list[np.ndarray], set[str]]:
    """Outputs, and the kinds of kernels that ran."""
    compiled = openvino.Core().compile_model(model, "CPU", compile_options(1) | {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    request.infer({"x": np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)})
    kernels = {
        info.node_type for info in request.get_profiling_info() if info.status == type(info).Status.EXECUTED
    }
    return [np.array(tensor.data) for tensor in request.output_tensors], kernels


@pytest.mark.parametrize("shape", [(CHANNELS, 1, 1), (1, CHANNELS, 1, 1)])
@pytest.mark.parametrize(
    "nodes",
    [
        SPREAD,
        (
            helper.make_node("Mul", ["a", "y"], ["ay"], "Mul"),
            helper.make_node("Max", ["ay", "y"], ["z"], "Max"),
        ),
    ],
)
def test_a_product_and_a_maximum_become_one_prelu_that_the_convolution_takes(nodes, shape):
    slopes = SLOPES.reshape(shape)
    before, kernels = run(network(nodes, slopes))
    assert kernels != {"Convolution"} | kernels & {"Reorder"}
    model = network(nodes, slopes)
    assert own_prelus(model) == 1
    assert "z" in {node.get_friendly_name() for node in model.get_ordered_ops()}
    assert model.output("z").get_any_name() == "z"
    after, kernels = run(model)
    assert kernels - {"Reorder"} == {"Convolution"}
    np.testing.assert_array_equal(after, before)


def test_prelus_that_share_their_slopes_get_their_own():
    conv = helper.make_node("Conv", ["x", "w"], ["v"], "Other", pads=[1] * 4, dilations=[1, 1])
    nodes = [helper.make_node("PRelu", ["y", "a"], ["z"], "One"), conv]
    nodes.append(helper.make_node("PRelu", ["v", "a"], ["u"], "Two"))
    slopes = SLOPES.reshape(CHANNELS, 1, 1)
    before, _ = run(network(nodes, slopes, ("z", "u")))
    model = network(nodes, slopes, ("z", "u"))
    assert own_prelus(model) >= 1
    after, kernels = run(model)
    assert "PRelu" not in kernels
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ("nodes", "slopes"),
    [
        (SPREAD, np.full((CHANNELS, 1, 1), 1.5, np.float32)),
        (SPREAD, np.full(SIDE, 0.25, np.float32)),
        ((helper.make_node("PRelu", ["y", "a"], ["z"], "One"),), SLOPES.reshape(CHANNELS, 1, 1)),
        (
            (
                helper.make_node("Neg", ["y"], ["n"], "Neg"),
                helper.make_node("Mul", ["n", "a"], ["an"], "Mul"),
                helper.make_node("Max", ["y", "an"], ["z"], "Max"),
            ),
            SLOPES.reshape(CHANNELS, 1, 1),
        ),
    ],
    ids=["slopes above 1", "slopes along the width", "a PReLU of its own", "the product of another tensor"],
)
def test_others_are_left(nodes, slopes):
    before, _ = run(network(nodes, slopes))
    model = network(nodes, slopes)
    assert own_prelus(model) == 0
    np.testing.assert_array_equal(run(model)[0], before)


def test_one_slope_for_all_channels():
    model = network(SPREAD, np.array(0.25, np.float32))
    before, _ = run(network(SPREAD, np.array(0.25, np.float32)))
    assert own_prelus(model) == 1
    np.testing.assert_array_equal(run(model)[0], before)
