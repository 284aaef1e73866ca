"""Sites of a placement: no activation without one, whatever the graph's tensors are called."""

from __future__ import annotations

import onnx
import pytest
from exported import tiny_graph
from onnx import helper

from edgefel.calib.graph import node_scope
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.calib.sites import Site, activation_sites


@pytest.mark.parametrize("policy", [ONNXRUNTIME, TENSORRT], ids=lambda policy: policy.name)
def test_every_activation_has_a_site_and_every_layer_its_input(policy):
    placement = place(tiny_graph(), policy)
    sites = activation_sites(tiny_graph(), placement)
    assert tuple(sites) == placement.activations
    assert all(sites.values())
    every = [site for own in sites.values() for site in own]
    assert len(set(every)) == len(every), "a site is of one activation"
    inputs = [site.module for site in every if site.side == "input"]
    nodes = {node.name: node for node in tiny_graph().graph.node}
    assert sorted(inputs) == sorted(node_scope(nodes[name]) for name in placement.nodes)
    assert sum(site.side == "output" for site in every) == len(placement.outputs)
    assert sum(site.side == "skip" for site in every) == len(placement.residuals)


def test_a_tensor_that_two_layers_read_has_two_sites():
    sites = activation_sites(tiny_graph(), place(tiny_graph(), TENSORRT))
    assert set(sites["image"]) == {
        Site("encoder.landmark_stream.stem.conv", "input"),
        Site("encoder.image_stream.stem.0", "input"),
    }
    assert str(sites["image"][0]) == f"{sites['image'][0].module}:input"


def test_of_two_added_convolutions_the_skip_is_beside_the_later_one():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["early"], "shortcut/Conv"),
        helper.make_node("Conv", ["image", "v"], ["late"], "residual/Conv"),
        helper.make_node("Add", ["late", "early"], ["sum"], "unit/Add"),
    ]
    weights = [
        helper.make_tensor(name, onnx.TensorProto.FLOAT, [3, 3, 1, 1], [0.5] * 9) for name in ("w", "v")
    ]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3, 4, 4])
        for name in ("image", "sum")
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], weights))
    sites = activation_sites(model, place(model, TENSORRT))
    assert sites["early"] == (Site("residual", "skip"),)
