"""What the pages say of APViT's dropping of tokens is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from edgefel.bench.experiments import keep_rates, token_pooling_effect
from edgefel.bench.experiments.ablation.verdict import Outcome
from edgefel.bench.results import read_results
from edgefel.export.onnx.trace import export_onnx
from edgefel.models import build_model

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"


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


def test_accuracy_and_cost_of_the_keep_rates():
    costs = json.loads((RESULTS / "keep-rates.json").read_text())["costs"]
    outcome = Outcome.of_rows(keep_rates.EXPERIMENT, read_results(RESULTS / "ablations.jsonl").rows)
    # cheaper is what was run: the networks of the rows
    for variant in outcome.variants:
        macs = {result["macs"] for result in outcome.results[variant.name].values()}
        assert macs == {costs[variant.name]["macs"]}


def test_choices_of_one_network_and_of_another(tmp_path):
    """Two programs on the same weights choose the same; a graph of other weights is found out."""
    import cv2

    rng = np.random.default_rng(0)
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for file in images:
        cv2.imwrite(str(file), rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    model = token_pooling_effect.examples("apvit-nano")["published"]
    same = token_pooling_effect.compare_choices(model, export_onnx(model), images)
    assert same["equal"] + same["different_at_a_tie"] == 3
    assert same["different"] == 0
    assert same["poolings"] == 3
    torch.manual_seed(1)
    other = token_pooling_effect.compare_choices(model, export_onnx(build_model("apvit-nano").eval()), images)
    assert other["different"] == 3
