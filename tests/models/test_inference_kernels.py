"""Which kernels a model needs, and that their constants describe the arrays they say."""

from __future__ import annotations

import importlib

import pytest

from edgefel.errors import EdgefelError
from edgefel.models import model_config
from edgefel.models.inference_kernels import bundle_kernels, fused_kernels, inference_kernels
from edgefel.runtime.onnx_functions import FusedNode


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


def test_apvit_has_a_launch_for_each_place_that_drops_tokens():
    blocks = [f"pool_tokens_block{number}" for number in (5, 6, 7, 8)]
    specs = by_name("apvit")
    assert list(specs) == ["pool_patches", *blocks]
    sizes = [(spec.constants["N"], spec.constants["KEEP"]) for spec in specs.values()]
    assert sizes == [(196, 160), (160, 144), (144, 129), (129, 116), (116, 104)]
    assert list(by_name("apvit+reliability")) == [*specs, "reliability_balance", "anchor_softmax"]


def test_a_pooling_that_drops_nothing_has_no_launch():
    assert not by_name("apvit", encoder={"keep_patches": 196, "keep_rates": (1.0, 1.0)})
    assert list(by_name("apvit", encoder={"keep_patches": 196, "keep_rates": (1.0, 0.5)})) == [
        "pool_tokens_block2"
    ]
    # of one token none can go
    assert list(by_name("apvit", encoder={"keep_patches": 1, "keep_rates": (0.5,)})) == ["pool_patches"]


def test_constants_of_the_poolings_describe_their_arrays():
    specs = by_name("apvit")
    patches, tokens = specs["pool_patches"], specs["pool_tokens_block5"]
    assert [argument.shape for argument in patches.arguments] == [
        "[N, 768, 196]",
        "[196, 768]",
        "[N, 160, 768]",
    ]
    assert [patches.constants[f"stride_{axis}"] for axis in "bnd"] == [768 * 196, 1, 196]
    shapes = [argument.shape for argument in tokens.arguments]
    assert shapes == ["[N, 161, 768]", "[N, 8, 161, 161]", "[N, 145, 768]"]
    assert [tokens.constants[f"stride_{axis}"] for axis in "bnd"] == [161 * 768, 768, 1]
    assert [tokens.constants[f"stride_p{axis}"] for axis in "bhk"] == [8 * 161**2, 161**2, 1]
    for spec, rows in ((patches, 196), (tokens, 161)):
        assert spec.programs_per_image == spec.constants["SLICES"]
        assert spec.constants["SLICES"] * spec.constants["ROWS"] >= rows
        assert {argument.type for argument in spec.arguments} == {"fp16"}


@pytest.mark.parametrize("name", ["apvit", "arbex"])
def test_every_parameter_of_a_kernel_is_given_once(name):
    pytest.importorskip("triton")
    for spec in inference_kernels(model_config(name)):
        function = getattr(importlib.import_module(spec.module), spec.function)
        given = [*(argument.name for argument in spec.arguments), *spec.constants]
        assert sorted(given) == sorted(function.arg_names), spec.name


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


ATTENTION = FusedNode(
    "levels.2/a",
    "window_cross_attention_w7_h2_d16_fp16",
    {"window": 7, "heads": 2, "width": 16, "scale": 0.25, "plugin_namespace": "edgefel"},
)
BALANCE = FusedNode(
    "head/b",
    "reliability_balance",
    {"classes": 8, "anchors": 10, "width": 64, "attentive": 1, "inverse_delta": 0.5},
)


def test_each_fused_operator_has_one_kernel_of_its_sizes():
    attention, balance = fused_kernels([ATTENTION, BALANCE, ATTENTION])
    assert (attention.name, balance.name) == (ATTENTION.operator, BALANCE.operator)
    constants = attention.constants
    assert (constants["W"], constants["H"], constants["D"], constants["scale"]) == (7, 2, 16, 0.25)
    assert {argument.type for argument in attention.arguments} == {"fp16"}
    sizes = {"C": 8, "K": 10, "E": 64, "ATTENTIVE": True, "inverse_delta": 0.5}
    assert sizes.items() <= balance.constants.items()


def test_a_bundles_kernels_are_the_models_and_its_operators():
    config = model_config("arbex-nano")
    plain = inference_kernels(config)
    specs = {spec.name: spec for spec in bundle_kernels(config, [ATTENTION, BALANCE])}
    assert list(specs) == [*(spec.name for spec in plain), ATTENTION.operator]
    assert specs["reliability_balance"].constants["C"] == 8, "the file's and not the configuration's"
