"""Fake quantizers and the Q/DQ nodes of the exported graph: one for one, of the same scales, weights and integers."""

from __future__ import annotations

import copy
import functools
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from exported import TINY_ENCODER
from onnx import numpy_helper

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex, node_scope
from edgefel.calib.placement import place
from edgefel.calib.quantize import quantize
from edgefel.calib.sites import Site, activation_sites
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import export_onnx
from edgefel.export.precision.precisions import POLICIES
from edgefel.export.qat.capture import Captured
from edgefel.export.qat.fake_quant import fake_quantize, fake_quantize_weight, quantized_weight
from edgefel.export.qat.student import Scales, check_weights_match
from edgefel.models import build_model

FAMILIES = {
    "arbex-nano": {"encoder": TINY_ENCODER},
    "arbex-nano+resizer": {"encoder": TINY_ENCODER},
    "apvit-nano": {"encoder": {"image_units": (1, 1, 1)}},
    # full widths, 224 pixels; fewer blocks
    "arbex": {"encoder": TINY_ENCODER},
}
EVERY = [
    pytest.param(family, precision, marks=pytest.mark.slow) for family in FAMILIES for precision in POLICIES
]


@functools.cache
def exported(family: str):
    """The network with its BatchNorms absorbed, before and after, an image batch, and its FP32 graph."""
    state = torch.get_rng_state()
    torch.manual_seed(3)
    model = build_model(family, num_classes=7, **FAMILIES[family]).use_attention("reference")
    size = model.config.input_size
    with torch.no_grad():
        if model.resizer is not None:  # it starts at zero
            torch.nn.init.normal_(model.resizer.project.weight, std=0.02)
        for parameter in model.parameters():  # biases and factors that are not 0 and 1
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.train()
        for _ in range(2):
            model(torch.randn(4, 3, size, size))
    torch.set_rng_state(state)
    before = copy.deepcopy(model.eval())
    captured = Captured(model)
    captured.absorb_batch_norms()
    graph, _ = spread_prelu(export_onnx(model))
    return (
        before,
        captured,
        np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32),
        graph,
    )


def copied(captured: Captured) -> Captured:
    """Its graph once more, to put quantizers into: capturing it again takes seconds."""
    own = copy.copy(captured)
    own.module = torch.fx.GraphModule(captured.module, copy.deepcopy(captured.graph))
    own.graph = own.module.graph
    nodes = {node.name: node for node in own.graph.nodes}
    own.layers = {name: nodes[node.name] for name, node in captured.layers.items()}
    return own


@functools.cache
def both(family: str, precision: str):
    """PyTorch's graph with fake quantizers, the sites, and the INT8 graph with its placement."""
    _, captured, batch, graph = exported(family)
    placement = place(graph, POLICIES[precision])
    scales = activation_scales(collect_activations(graph, placement.activations, [batch]), "mse")
    sites = activation_sites(graph, placement)
    own = copied(captured)
    vector = Scales(torch.tensor([float(scales[name]) for name in sites]), learn=False)
    return own.quantize(sites, vector), sites, quantize(graph, placement, scales), placement


def quantizers(module) -> dict[torch.fx.Node, int]:
    """Every fake quantizer of an activation -> the number of its scale."""
    return {
        node: node.args[1].args[2]
        for node in module.graph.find_nodes(op="call_function", target=fake_quantize)
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_absorbed_batch_norms_change_nothing_but_rounding(family):
    before, captured, batch, graph = exported(family)
    captured.module.recompile()
    with torch.no_grad():
        wanted = before.double()(torch.from_numpy(batch).double())
        found = captured.model(torch.from_numpy(batch)), captured.module(torch.from_numpy(batch))
    before.float()
    for prediction in found:
        for name, value in wanted._asdict().items():
            torch.testing.assert_close(getattr(prediction, name).double(), value, rtol=2e-4, atol=2e-5)
    check_weights_match(graph, place(graph, POLICIES["int8"]), captured.model)
    state = copy.deepcopy(captured.model.state_dict())
    again = Captured(captured.model)
    again.absorb_batch_norms()
    for name, value in captured.model.state_dict().items():
        assert torch.equal(value, state[name]), f"{name}: absorbing twice changes it"


@pytest.mark.parametrize(("family", "precision"), EVERY)
def test_every_quantizer_of_the_file_is_one_in_pytorch_and_back(family, precision):
    module, sites, int8, placement = both(family, precision)
    names = list(sites)
    # one fake quantizer for each activation, and a QuantizeLinear (or copies of it, .2 and so on) for each
    fake = Counter(names[number] for number in quantizers(module).values())
    assert fake == dict.fromkeys(placement.activations, 1)
    real = {
        node.input[1].removesuffix(".scale") for node in int8.graph.node if node.op_type == "QuantizeLinear"
    }
    assert {name for name in names if name in real} == set(names)
    assert {name for name in real - set(names) if name.rpartition(".")[0] not in names} == set()
    # layer by layer: what computes in INT8 reads these two, in PyTorch as in the file
    index, of = GraphIndex(int8.graph), quantizers(module)
    layers = {
        str(weight.args[0].target).removesuffix(".weight"): (weight, next(iter(weight.users)))
        for weight in module.graph.find_nodes(op="call_function", target=fake_quantize_weight)
    }
    assert len(layers) == len(placement.nodes)
    for name in placement.nodes:
        node = index.nodes[name]
        weight, layer = layers[node_scope(node)]
        assert layer.args[1] is weight
        read = index.producers[node.input[0]]
        assert read.op_type == "DequantizeLinear"
        own = names[of[layer.args[0]]]
        assert read.input[1] == f"{own}.scale" or read.input[1].rpartition(".")[0].startswith(f"{own}."), name
    for add, skip in placement.residuals.items():
        assert skip in [
            names[of[a]]
            for n in of
            for u in n.users
            if u.target is torch.ops.aten.add.Tensor
            for a in u.args
            if a in of
        ], add
    for output in placement.outputs:
        node = next(node for node, number in of.items() if names[number] == output)
        assert set(node.args[0].users) == {node}, f"{output} is read in float"


@pytest.mark.parametrize(("family", "precision"), EVERY)
def test_weights_are_the_files_to_the_bit(family, precision):
    module, _, int8, placement = both(family, precision)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    stored = {
        node.input[0]: node
        for node in int8.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    layers = module.graph.find_nodes(op="call_function", target=fake_quantize_weight)
    assert len(stored) == len(placement.weights) == len(layers)
    found = {}
    for node in layers:
        values, scales = quantized_weight(dict(module.named_parameters())[node.args[0].target])
        found[node.args[0].target.removesuffix(".weight")] = values.numpy(), scales.numpy().ravel()
    _, _, _, graph = exported(family)
    for node in graph.graph.node:
        if node.name in placement.nodes:
            values, scales = found[node_scope(node)]
            weight = constants[f"{node.input[1]}.int8"]
            assert np.array_equal(weight if placement.weights[node.input[1]] == 0 else weight.T, values)
            assert np.array_equal(constants[f"{node.input[1]}.scale"], scales)


class Forced(torch.fx.Interpreter):
    """Runs PyTorch's graph and puts ONNX Runtime's integers behind every quantizer, so that no error adds up.

    differ: by activation, the share of integers that are not ONNX Runtime's, and the largest difference.
    """

    def __init__(self, module, names, integers) -> None:
        super().__init__(module)
        self.names, self.integers, self.differ = names, integers, {}

    def run_node(self, node):
        result = super().run_node(node)
        if node.target is not fake_quantize:
            return result
        scale = self.env[node.args[1]]
        name = self.names[node.args[1].args[2]]
        theirs = torch.from_numpy(self.integers[name].astype(np.float32)).reshape(result.shape)
        off = ((result / scale).round() - theirs).abs()
        self.differ[name] = float((off > 0).float().mean()), float(off.max())
        return theirs * scale


@pytest.mark.parametrize(("family", "precision"), EVERY)
def test_integers_are_those_of_onnx_runtime(family, precision):
    module, sites, int8, _ = both(family, precision)
    _, _, batch, _ = exported(family)
    watched = onnx.ModelProto()
    watched.CopyFrom(int8)
    kind, zero = onnx.TensorProto.INT8, 0
    if POLICIES[precision].unsigned:
        kind, zero = onnx.TensorProto.UINT8, 128
    for name in sites:
        value = onnx.helper.make_tensor_value_info(f"{name}.int8", kind, None)
        watched.graph.output.append(value)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"image": batch}), strict=True)
    )
    forced = Forced(
        module, list(sites), {name: outputs[f"{name}.int8"].astype(np.int16) - zero for name in sites}
    )
    with torch.no_grad():
        prediction = forced.run(torch.from_numpy(batch))
    assert forced.differ.keys() == sites.keys()
    # sums in another order differ in the last bits, and a value that lies between two integers may go either way
    for name, (share, largest) in forced.differ.items():
        assert share < 2e-3, name
        assert largest <= 1, name
    for name, value in zip(
        ("logits", "primary", "probabilities", "confidence", "embedding"), prediction, strict=True
    ):
        np.testing.assert_allclose(value.numpy(), outputs[name], rtol=1e-3, atol=1e-4)


def test_a_site_that_pytorch_does_not_have_is_refused():
    own = Captured.__new__(Captured)
    own.layers = {}
    with pytest.raises(EdgefelError, match=r"^encoder\.gone: the exported file computes it in INT8, but"):
        own._layer(Site("encoder.gone", "input").module)
