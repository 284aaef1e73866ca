"""Names in published files -> ours; tests/vectors lists every name of three releases."""

from __future__ import annotations

import csv

import pytest
import torch
from published_weights import VECTORS

from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.models.published_layouts import LAYOUTS, PREPROCESSING, RULES, translate
from edgefel.models.registry import model_config


def published_names(name: str) -> list[str]:
    with (VECTORS / f"{name}_state_dict.tsv").open(newline="") as stream:
        return [row[-3] for row in csv.reader(stream, delimiter="\t")]


def names_of(config: ModelConfig) -> set[str]:
    with torch.device("meta"):
        return set(FacialExpressionModel(config).state_dict())


@pytest.mark.parametrize(
    ("layout", "vectors"), [("poster-v2", "poster_v2_7cls"), ("arbex", "arbex"), ("apvit", "apvit")]
)
def test_every_name_of_a_release_is_known_and_fills_its_network(layout, vectors):
    ours = [translate(layout, name) for name in published_names(vectors)]
    assert None not in ours
    found = [name for name in ours if name]
    assert len(set(found)) == len(found)
    head = {"embedding_dim": 768, "attentive": False, "norm_first": True}
    config = model_config(layout, **({"head": head} if layout == "arbex" else {}))
    expected = names_of(config)
    assert {name for name in found if not name.startswith("head.")} == {
        name for name in expected if not name.startswith("head.")
    }


def test_layouts_have_rules_and_whole_networks_their_preprocessing():
    assert set(RULES) == set(LAYOUTS)
    assert set(PREPROCESSING) == {"poster-v2", "apvit", "arbex"}


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("body.0.res_layer.1.weight", "stages.0.0.residual.1.weight"),
        ("body.3.res_layer.1.weight", "stages.1.0.residual.1.weight"),
        ("body.20.shortcut_layer.0.weight", "stages.2.13.shortcut.0.weight"),
        ("body3.13.res_layer.3.weight", "stages.2.13.residual.3.weight"),
        ("input_layer.0.weight", "stem.0.weight"),
    ],
)
def test_ir50_in_both_numberings(key, ours):
    assert translate("ir50", key) == f"encoder.image_stream.{ours}"


def test_unused_and_unknown_entries():
    assert translate("ir50", "body.21.res_layer.1.weight") == ""
    assert translate("ir50", "output_layer.0.weight") == ""
    assert translate("ir50", "layer1.0.conv1.weight") is None
