"""What each part of a head knows: against the head itself, and on arrangements that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefel.bench.experiments.ablation.judge import Parts, diagnose, parts
from edgefel.models.config import ReliabilityConfig
from edgefel.models.reliability import LinearHead, ReliabilityHead

N, WIDTH, CLASSES = 11, 8, 3


def head(**changes) -> ReliabilityHead:
    torch.manual_seed(0)
    usual = {"embedding_dim": WIDTH, "hidden": (4,), "anchors_per_class": 2, "attention_head_dim": 4}
    return ReliabilityHead(WIDTH, CLASSES, ReliabilityConfig(**{**usual, **changes})).double().eval()


def embeddings() -> torch.Tensor:
    return torch.randn(N, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("anchors", [0, 2])
@pytest.mark.parametrize("attentive", [False, True])
def test_the_parts_and_their_weights_make_up_what_the_head_predicts(anchors, attentive):
    model = head(anchors_per_class=anchors, attentive=attentive)
    with torch.inference_mode():
        predicted = model(embeddings(), embeddings()[:, None])
    found = parts(model, embeddings())
    assert ("geometric" in found.branches) == bool(anchors)
    assert ("attentive" in found.branches) == attentive
    primary, corrected = predicted.primary.numpy(), predicted.probabilities.numpy()
    if "correcting" not in found.branches:
        assert not anchors
        assert not attentive
        np.testing.assert_array_equal(primary, corrected)
        return
    weight = found.weight[:, None]
    np.testing.assert_allclose(
        weight * found.branches["correcting"] + (1 - weight) * primary, corrected, atol=1e-12
    )


def test_a_head_without_parts():
    found = parts(LinearHead(WIDTH, CLASSES), embeddings())
    assert (found.branches, found.weight, found.anchors) == ({}, None, None)
    p = np.full((N, CLASSES), 1 / CLASSES)
    said = diagnose(found, p, p, np.zeros(N, np.int64))
    assert set(said["accuracy"]) == {"primary", "corrected"}
    assert (said["weight"], said["anchors"], said["changed"]) == (None, None, 0.0)


def test_changes_are_counted_by_what_they_do():
    def sure(*labels: int) -> np.ndarray:
        return np.eye(CLASSES)[list(labels)] * 0.9 + 0.1 / CLASSES

    targets = np.array([0, 1, 2, 0, 1])
    primary, corrected = sure(0, 1, 0, 1, 0), sure(0, 0, 2, 2, 1)
    said = diagnose(parts(LinearHead(WIDTH, CLASSES), torch.zeros(5, WIDTH)), primary, corrected, targets)
    # kept, spoiled, fixed, wrong in another way, fixed
    assert said["changed"] == pytest.approx(4 / 5)
    assert said["fixed"] == pytest.approx(2 / 5)
    assert said["spoiled"] == pytest.approx(1 / 5)
    assert said["accuracy"] == {"primary": pytest.approx(2 / 5), "corrected": pytest.approx(3 / 5)}
    assert said["probabilities"]["primary"]["max"] == pytest.approx(0.9 + 0.1 / 3)
    assert said["probabilities"]["primary"]["min"] == pytest.approx(0.1 / 3)
    assert said["confidence"]["primary"] > 0.5


def anchors_of(embedding: np.ndarray, anchors: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    p = np.full((len(embedding), len(anchors)), 1 / len(anchors))
    return diagnose(Parts({}, None, embedding, anchors), p, p, targets)["anchors"]


def test_anchors_that_are_used_and_anchors_that_are_not():
    # classes at (0, 0) and (10, 0), the second anchor of each far away from every image
    anchors = np.array([[[0.0, 0.0], [0.0, 100.0]], [[10.0, 0.0], [10.0, 100.0]]])
    images = np.array([[1.0, 0.0], [-1.0, 0.0], [9.0, 0.0], [1.0, 0.0]])
    said = anchors_of(images, anchors, np.array([0, 0, 1, 1]))
    assert said["used"] == 2 / 4
    assert said["own_class"] == 3 / 4
    # every image is 1 away, in two dimensions
    assert said["distance"] == pytest.approx(np.sqrt(1 / 2))
    # of 10,100 in squares of all, 100 is between the classes
    assert said["between_classes"] == pytest.approx(100 / 10100)
    squares = [((a - b) ** 2).sum() / 2 for a in anchors.reshape(4, 2) for b in anchors.reshape(4, 2)]
    assert said["spread"] == pytest.approx(np.sqrt(sum(squares) / 12))


def test_anchors_of_a_class_that_fell_together():
    anchors = np.repeat(np.random.default_rng(0).normal(size=(3, 1, 4)), 5, axis=1)
    said = anchors_of(anchors[:, 0], anchors, np.arange(3))
    assert said["between_classes"] == pytest.approx(1.0)
    assert said["distance"] == pytest.approx(0.0, abs=1e-6)
    assert said["own_class"] == 1.0
    assert said["used"] <= 3 / 15
