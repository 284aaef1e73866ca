"""The mixed-precision search on a real network, with one layer whose scales are broken."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from exported import BROKEN_LAYER, VIT_ONLY, colour_images, save, varied_graph, varied_model

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.images import ComparedImages
from edgefel.calib.placement import place
from edgefel.calib.quantize import quantize
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.gate import Gate
from edgefel.export.parity.limits import ParityLimits
from edgefel.export.precision.mixed import LAYERS_NAME, PLOT_NAME, find_mix, mix_entry, write_search
from edgefel.models.checkpoint import load_checkpoint

PREPROCESSING = default_preprocessing(112)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    checkpoint = load_checkpoint(save(tmp_path_factory.mktemp("mixed") / "checkpoint", varied_model()))
    crops = tuple(colour_images(48))
    limits = {"int8": ParityLimits(min_sqnr_db=20.0, min_agreement=0.9, min_images=10, min_per_class=1000)}
    blind = Gate(checkpoint, ComparedImages(crops, None, "colours"), limits)
    # the reference is right about every image, so whatever differs from it is a loss
    targets = blind.reference["probabilities"].argmax(axis=1)
    return Gate(checkpoint, ComparedImages(crops, targets, "colours"), limits)


@pytest.fixture(scope="module")
def scales(gate):
    tensors = place(varied_graph(), VIT_ONLY).activations
    batches = list(gate.images.batches(PREPROCESSING))[:2]
    return activation_scales(collect_activations(varied_graph(), tensors, batches), "minmax")


def search(gate, scales, max_drop: float = 100.0):
    def build(kept):
        return {"int8": quantize(varied_graph(), place(varied_graph(), VIT_ONLY, kept), scales)}

    layers = place(varied_graph(), VIT_ONLY).nodes
    return find_mix(varied_graph(), layers, build, gate, PREPROCESSING, max_drop)


@pytest.mark.slow
def test_the_broken_layer_is_named_and_kept_in_float(gate, scales, tmp_path):
    tensor = GraphIndex(varied_graph().graph).nodes[BROKEN_LAYER].input[0]
    result = search(gate, {**scales, tensor: np.float32(scales[tensor] * 64)})
    assert result.decisions[0].cost.node == BROKEN_LAYER
    assert set(result.keep_float) == {BROKEN_LAYER}
    assert not result.trials[0].verdict.passes
    assert 0.5 < result.int8_share < 1
    write_search(tmp_path, result, mix_entry(result, 0.5, 48))
    document = json.loads((tmp_path / LAYERS_NAME).read_text())
    assert document["layers"][0]["node"] == BROKEN_LAYER
    assert "rank 1" in document["layers"][0]["reason"]
    assert document["kept_float"] == 1
    assert (tmp_path / PLOT_NAME).read_bytes().startswith(b"\x89PNG")


def test_macro_recall_is_held_to_the_drop_allowed(gate, scales):
    from edgefel.export.onnx.trace import serialize
    from edgefel.export.precision.mixed import _verdict

    model = quantize(
        varied_graph(), place(varied_graph(), VIT_ONLY), {name: value * 8 for name, value in scales.items()}
    )
    parity = gate.judge(serialize(model), "int8", PREPROCESSING)
    assert parity.labels is not None
    lost = [-entry.change for entry in parity.labels.classes if entry.change is not None]
    drop = sum(lost) / len(lost)
    assert drop > 0, "broken scales lose something"
    assert any("macro recall" in reason for reason in _verdict({"int8": parity}, drop - 0.01).reasons)
    assert not any("macro recall" in reason for reason in _verdict({"int8": parity}, drop + 0.01).reasons)
    assert _verdict({"int8": parity}, 100.0).recall_loss == pytest.approx(max(lost))


def test_images_without_labels_are_refused(gate, scales):
    unlabelled = Gate.__new__(Gate)
    unlabelled.images = dataclasses.replace(gate.images, targets=None)
    with pytest.raises(EdgefelError, match="give labelled images with --data"):
        search(unlabelled, scales)


def test_a_spread_takes_images_from_everywhere(gate):
    few = gate.images.spread(5)
    assert len(few) == 5
    assert few.targets is not None
    assert gate.images.spread(1000) == gate.images
    everywhere = [
        index for index, crop in enumerate(gate.images.crops) if any(crop is one for one in few.crops)
    ]
    assert everywhere[0] == 0
    assert everywhere[-1] > 36
