"""Registered names, their additions, and changes to their configurations."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.models.registry import ADDITIONS, MODELS, build_model, describe, list_models, model_config


def test_every_name_takes_every_addition():
    assert list_models() == list(MODELS)
    for name in MODELS:
        config = model_config(f"{name}+resizer+reliability")
        assert config.name == f"{name}+resizer+reliability"
        assert config.head is not None
        assert config.resizer.output_size == MODELS[name].input_size
        assert describe(config.name).endswith(f"; {ADDITIONS['resizer']}; {ADDITIONS['reliability']}")


def test_the_scale_of_a_resizer_follows_the_sides_unless_it_is_given():
    assert model_config("apvit-nano+resizer").resizer.scale == 0.584
    assert model_config("apvit-nano+resizer", input_size=64).resizer.scale is None
    assert model_config("apvit-nano+resizer", resizer={"scale": 0.5839}).resizer.scale == 0.5839


def test_changes_of_parts_and_their_lists():
    config = model_config("arbex-nano", num_classes=8, head={"hidden": [32]}, encoder={"heads": [1, 1, 1]})
    assert (config.num_classes, config.head.hidden, config.encoder.heads) == (8, (32,), (1, 1, 1))
    assert config.head.embedding_dim == MODELS["arbex-nano"].head.embedding_dim


def test_bad_names_and_settings():
    with pytest.raises(EdgefelError, match="unknown model 'arbx'; known: arbex"):
        build_model("arbx")
    with pytest.raises(EdgefelError, match=r"unknown entries \['depht'\]"):
        model_config("arbex", encoder={"depht": 3})
    with pytest.raises(EdgefelError, match="no head to configure"):
        model_config("poster-v2", head={"delta": 2.0})
    with pytest.raises(
        EdgefelError, match="unknown model 'arbex\\+wings'; known: arbex, .*\\+resizer or \\+reliability"
    ):
        model_config("arbex+wings")
    with pytest.raises(EdgefelError, match="name each addition once"):
        model_config("apvit+resizer+resizer")
