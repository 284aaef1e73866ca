"""What each layer costs alone."""

from __future__ import annotations

import numpy as np
import pytest
from exported import BROKEN_LAYER, VIT_ONLY, colour_batch, run_onnx, varied_graph

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import place
from edgefel.export.precision.sensitivity import rank_layers


def batch():
    return colour_batch(48, seed=3)


@pytest.fixture(scope="module")
def scales():
    tensors = place(varied_graph(), VIT_ONLY).activations
    return activation_scales(collect_activations(varied_graph(), tensors, [batch()[:8]]), "minmax")


@pytest.fixture(scope="module")
def targets():
    probabilities = run_onnx(varied_graph(), batch())["probabilities"]
    return probabilities.argmax(axis=1)


def ranked(scales, targets=None):
    return rank_layers(varied_graph(), VIT_ONLY, scales, lambda model: run_onnx(model, batch()), targets)


def test_every_layer_is_ranked_by_what_it_costs(scales, targets):
    costs = ranked(scales, targets)
    assert {cost.node for cost in costs} == set(place(varied_graph(), VIT_ONLY).nodes)
    assert [cost.kl for cost in costs] == sorted((cost.kl for cost in costs), reverse=True)
    assert costs[0].kl > 0
    assert all(cost.sqnr_db > 15 and cost.macs > 0 for cost in costs)
    # the targets are the float model's own labels: recall lost and labels changed are the same thing
    assert all((cost.recall_loss > 0) == (cost.agreement < 1) for cost in costs)
    assert min(cost.agreement for cost in costs) < 1


def test_a_layer_with_broken_scales_comes_first(scales):
    tensor = GraphIndex(varied_graph().graph).nodes[BROKEN_LAYER].input[0]
    costs = ranked({**scales, tensor: np.float32(scales[tensor] * 8)})
    assert costs[0].node == BROKEN_LAYER
    assert costs[0].kl > 3 * costs[1].kl
    assert costs[0].recall_loss is None, "no targets, no recall"
