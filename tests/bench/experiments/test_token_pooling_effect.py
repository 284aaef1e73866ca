"""What the pages say of APViT's dropping of tokens is what was measured, and how choices are compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from edgefel.bench.experiments import token_pooling_effect
from edgefel.export.onnx.trace import export_onnx
from edgefel.models import build_model
from edgefel.models.registry import MODELS, NANO_APVIT

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def test_equal_choices_on_500_images():
    measured = json.loads((RESULTS / "token-pooling.json").read_text())
    choices = measured["choices"]
    assert measured["model"] == "apvit"
    assert choices["images"] == 500
    assert choices["poolings"] == 5  # the patches', and the last four blocks'
    assert choices["different"] == 0
    assert choices["equal"] + choices["different_at_a_tie"] == 500
    assert measured["costs"]["macs"]["ratio"] > 1
    for program in ("pytorch", "onnxruntime"):
        assert measured["costs"][f"{program}_ratio"]["low"] > 1


def test_choices_of_one_network_and_of_another(tmp_path, monkeypatch):
    """Two programs on the same weights choose the same; a network of other weights is found out."""
    rng = np.random.default_rng(0)
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for file in images:
        cv2.imwrite(str(file), rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    # two blocks instead of four
    shallow = dataclasses.replace(NANO_APVIT, image_units=(1, 1, 1), keep_rates=(0.9, 0.9))
    monkeypatch.setitem(MODELS, "apvit-nano", dataclasses.replace(MODELS["apvit-nano"], encoder=shallow))
    model = token_pooling_effect.examples("apvit-nano")["published"]
    graph = export_onnx(model)
    same = token_pooling_effect.compare_choices(model, graph, images)
    assert same["equal"] + same["different_at_a_tie"] == 3
    assert same["different"] == 0
    assert same["poolings"] == 3
    torch.manual_seed(1)
    other = token_pooling_effect.compare_choices(build_model("apvit-nano").eval(), graph, images)
    assert other["different"] == 3
