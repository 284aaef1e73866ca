"""The figures; tests/cli/test_evaluate.py looks at all of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgefel.evaluation.evaluate import evaluate
from edgefel.evaluation.plots import confusion_figure, map_features


@pytest.mark.parametrize(("name", "ratio", "deviation"), [("confusion", 1.5, 20), ("coverage", 2, 10)])
def test_pairs_of_panels_are_wide_and_not_empty(evaluated, name, ratio, deviation):
    image = cv2.imread(str(evaluated[1] / f"{name}.png"))
    assert image.shape[1] > ratio * image.shape[0] > 600
    assert image.std() > deviation


def test_a_model_without_the_head_has_one_confusion_matrix(headless, faces):
    evaluation = evaluate(headless, faces)
    matrix, _ = confusion_figure(evaluation).axes  # and the colour bar
    assert matrix.get_title().startswith("no reliability head")
    counts = [int(text.get_text()) for text in matrix.texts]
    assert counts == np.ravel(evaluation.without_head.confusion).tolist()


def test_the_map_is_the_same_each_time_and_keeps_neighbours():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (15, 8)), rng.normal(5, 0.1, (15, 8))])
    points = map_features(features)
    assert np.array_equal(points, map_features(features))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(30, np.inf))
    assert ((distances.argmin(1) < 15) == (np.arange(30) < 15)).all()
