"""Configurations: checked at construction, and the same after a file."""

from __future__ import annotations

import json

import pytest

from edgefel.errors import EdgefelError
from edgefel.models import ModelConfig, list_models, model_config


def test_config_round_trip():
    for name in list_models():
        config = model_config(f"{name}+resizer")
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_encoder_without_a_kind_is_the_pyramid():
    data = model_config("arbex-nano").to_dict()
    del data["encoder"]["kind"]  # files older than the second encoder
    assert ModelConfig.from_dict(data) == model_config("arbex-nano")
    with pytest.raises(EdgefelError, match="unknown encoder 'swin'; known: window-pyramid, apvit"):
        ModelConfig.from_dict(data | {"encoder": {"kind": "swin"}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 200}, "multiple of 112"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"encoder": {"heads": (3, 4, 8)}}, "not divisible"),
        ({"encoder": {"windows": (0, 7, 7)}}, "windows needs 3 positive values"),
        ({"encoder": {"landmark_widths": (32, 128, 512)}}, "joins the streams"),
        ({"encoder": {"drop_path": (0.0, 0.5, 1.0)}}, r"drop_path rates must be in \[0, 1\)"),
        ({"head": {"embedding_dim": 100}}, "is not a multiple of attention_head_dim 64"),
        ({"head": {"dropout": 1.0}}, r"dropout must be in \[0, 1\)"),
        ({"head": {"attention_tokens": "all"}}, "must be 'embedding' or 'patches', got 'all'"),
    ],
)
def test_settings_that_make_no_network(changes, message):
    with pytest.raises(EdgefelError, match=message):
        model_config("arbex", **changes)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"keep_patches": 197}, "keep_patches must be from 1 to 196"),
        ({"keep_rates": ()}, "keep_rates needs a rate"),
        ({"keep_rates": (1.0, 0.0)}, "keep_rates needs a rate"),
    ],
)
def test_settings_that_make_no_apvit(encoder, message):
    with pytest.raises(EdgefelError, match=message):
        model_config("apvit", encoder=encoder)


def test_a_resizer_and_its_sides():
    with pytest.raises(EdgefelError, match="from 48 to 384, got 40"):
        model_config("arbex-nano+resizer", input_size=40)
    with pytest.raises(
        EdgefelError, match="a resizer with scale 0.5 makes no 112 of 192; leave out the scale"
    ):
        model_config("arbex-nano+resizer", resizer={"scale": 0.5})


def test_sizes_of_no_real_network_are_refused_in_files():
    data = model_config("arbex-nano").to_dict()
    data["encoder"]["image_units"] = [1, 1, 257]
    with pytest.raises(EdgefelError, match="image_units must be at most 256"):
        ModelConfig.from_dict(data)
