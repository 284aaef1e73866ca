from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import evaluate
from edgefel.models.checkpoint import load_checkpoint


def test_numbers_equal_those_of_the_model_run_by_hand(nano_checkpoint, faces):
    result = evaluate(nano_checkpoint, faces)
    model = load_checkpoint(nano_checkpoint).model
    kept = [i for i in range(21) if i not in (4, 20)]
    images = [cv2.cvtColor(cv2.imread(str(faces / f"{i}.png")), cv2.COLOR_BGR2RGB) for i in kept]
    with torch.no_grad():
        out = model(torch.from_numpy(default_preprocessing(112).batch(images)))
    targets = np.array([i % 7 for i in kept])
    for metrics, probabilities in (
        (result.with_head, out.probabilities),
        (result.without_head, out.primary),
    ):
        predicted = probabilities.argmax(1).numpy()
        assert metrics.accuracy == pytest.approx((predicted == targets).mean())
        expected = np.zeros((7, 7), int)
        np.add.at(expected, (targets, predicted), 1)
        assert np.array_equal(metrics.confusion, expected)
    assert result.final is result.with_head
    assert result.with_head.ece != result.without_head.ece
    assert result.images == sum(result.counts) == 19
    assert [Path(p).name for p in result.skipped] == ["4.png", "20.png"]


def test_a_model_without_the_head_has_one_set_of_numbers(headless, faces):
    result = evaluate(headless, faces)
    assert result.with_head is None
    assert result.final is result.without_head


def test_a_model_without_the_classes_of_the_data_is_refused(nano_checkpoint, tmp_path, faces):
    folder = shutil.copytree(nano_checkpoint, tmp_path / "own")
    description = json.loads((folder / "model.json").read_text())
    description["labels"] = ["calm", "fear", "b", "c", "d", "e", "f"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(EdgefelError, match="share fewer than two classes: the model's are calm, fear, b"):
        evaluate(folder, faces)


def test_a_missing_split_and_unreadable_images_only(nano_checkpoint, faces, tmp_path):
    with pytest.raises(EdgefelError, match="no images in the split 'val'"):
        evaluate(nano_checkpoint, faces, "val")
    for name in EXPRESSIONS_7:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    with pytest.raises(EdgefelError, match="none of the 7 images can be read"):
        evaluate(nano_checkpoint, tmp_path, None)
