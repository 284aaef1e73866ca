"""Which kernels a model needs, and that their constants describe the arrays they say."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.models import model_config
from edgefel.models.inference_kernels import inference_kernels


def by_name(name: str, **changes):
    return {spec.name: spec for spec in inference_kernels(model_config(name, **changes))}


def test_the_full_model_has_a_kernel_for_each_level_and_the_head():
    specs = by_name("arbex")
    assert list(specs) == [
        "window_cross_attention_level1",
        "window_cross_attention_level2",
        "window_cross_attention_level3",
        "reliability_balance",
        "anchor_softmax",
    ]
    windows = [specs[f"window_cross_attention_level{level}"].constants["W"] for level in (1, 2, 3)]
    assert windows == [28, 14, 7]


def test_parts_that_a_model_lacks_are_left_out():
    assert list(by_name("poster-v2")) == [f"window_cross_attention_level{level}" for level in (1, 2, 3)]
    specs = by_name("arbex", head={"anchors_per_class": 0})
    assert "anchor_softmax" not in specs
    assert specs["reliability_balance"].constants["K"] == 0
    assert "not read" in specs["reliability_balance"].arguments[2].note


def test_an_encoder_without_windows_has_the_head_alone():
    assert not by_name("apvit")
    assert list(by_name("apvit+reliability")) == ["reliability_balance", "anchor_softmax"]


def test_sizes_of_the_head_come_from_its_configuration():
    specs = by_name("arbex", num_classes=8, head={"embedding_dim": 768, "anchors_per_class": 3, "delta": 4.0})
    for name in ("reliability_balance", "anchor_softmax"):
        constants = specs[name].constants
        assert (constants["C"], constants["K"], constants["E"]) == (8, 3, 768)
        assert constants["inverse_delta"] == 0.25


def test_a_level_of_several_windows_says_so():
    spec = by_name("arbex-nano")["window_cross_attention_level1"]
    assert spec.arguments[0].shape == "[N*4, 196, 1, 8]"
    tiles = -(-196 // spec.constants["BLOCK_M"])
    assert spec.programs_per_image == tiles * 1 * 4


def test_an_unknown_type_is_refused():
    with pytest.raises(EdgefelError, match="type 'int8': choose one of fp32, fp16, bf16"):
        inference_kernels(model_config("arbex"), "int8")
