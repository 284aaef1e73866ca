"""What each layer costs alone, in the files that are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exported import BROKEN_LAYER, VIT_ONLY, colour_batch, run_onnx, varied_graph

from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import place
from edgefel.calib.quantize import quantize
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.precision.sensitivity import rank_layers


def batch():
    return colour_batch(48, seed=3)


LAYERS = place(varied_graph(), VIT_ONLY).nodes
UNSIGNED = replace(VIT_ONLY, unsigned=True)


@pytest.fixture(scope="module")
def found():
    tensors = place(varied_graph(), VIT_ONLY).activations
    return collect_activations(varied_graph(), tensors, [batch()[:8]])


@pytest.fixture(scope="module")
def scales(found):
    return activation_scales(found, "minmax")


@pytest.fixture(scope="module")
def targets():
    probabilities = run_onnx(varied_graph(), batch())["probabilities"]
    return probabilities.argmax(axis=1)


def written(kept, scales, ends=None):
    """The graph of a file with these layers in float; uint8 and asymmetric with `ends`."""
    policy = VIT_ONLY if ends is None else UNSIGNED
    return quantize(varied_graph(), place(varied_graph(), policy, kept), scales, ends)


def ranked(build, targets=None, layers=LAYERS, images=None):
    few = batch()[:images]
    return rank_layers(varied_graph(), layers, build, lambda model: run_onnx(model, few), targets)


def test_every_layer_is_ranked_by_what_it_costs(scales, targets):
    costs = ranked(lambda kept: {"int8": written(kept, scales)}, targets)
    assert {cost.node for cost in costs} == set(LAYERS)
    assert [cost.kl for cost in costs] == sorted((cost.kl for cost in costs), reverse=True)
    assert costs[0].kl > 0
    assert all(cost.sqnr_db > 15 and cost.macs > 0 for cost in costs)
    # the targets are the float model's own labels: recall lost and labels changed are the same thing
    assert all((cost.recall_loss > 0) == (cost.agreement < 1) for cost in costs)
    assert min(cost.agreement for cost in costs) < 1


def test_a_layer_with_broken_scales_comes_first(scales):
    tensor = GraphIndex(varied_graph().graph).nodes[BROKEN_LAYER].input[0]
    broken = {**scales, tensor: np.float32(scales[tensor] * 8)}
    costs = ranked(lambda kept: {"int8": written(kept, broken)})
    assert costs[0].node == BROKEN_LAYER
    assert costs[0].kl > 3 * costs[1].kl
    assert costs[0].recall_loss is None, "no targets, no recall"


def test_a_layer_costs_what_it_costs_in_the_file_where_that_is_most(found, scales):
    """One file is symmetric, the other has asymmetric ranges, of which one is broken."""
    tensor = GraphIndex(varied_graph().graph).nodes[BROKEN_LAYER].input[0]
    ends = activation_ends(found, "minmax")
    ends[tensor] = (8 * ends[tensor][0], 8 * ends[tensor][1])
    layers = [BROKEN_LAYER, *LAYERS[:6]]
    rest = dict.fromkeys(set(LAYERS) - set(layers), "not ranked")

    def build(kept):
        kept = rest | kept
        return {"int8": written(kept, scales, ends), "int8+fp16": written(kept, scales)}

    costs = ranked(build, layers=layers, images=16)
    assert (costs[0].node, costs[0].precision) == (BROKEN_LAYER, "int8")
    assert {cost.precision for cost in costs} == {"int8", "int8+fp16"}
    reference = run_onnx(varied_graph(), batch()[:16])["logits"]
    for cost in (costs[0], next(cost for cost in costs if cost.precision == "int8+fp16")):
        graphs = build(dict.fromkeys(set(layers) - {cost.node}, ""))
        both = {
            name: sqnr_db(reference, run_onnx(graph, batch()[:16])["logits"])
            for name, graph in graphs.items()
        }
        assert cost.sqnr_db == pytest.approx(both[cost.precision])
        assert both["int8"] != pytest.approx(both["int8+fp16"], abs=0.01)
