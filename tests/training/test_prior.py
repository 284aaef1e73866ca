"""PDLS and F-PDLS: the published numbers, priors from everywhere, and training with them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.training.config import LossConfig, TrainConfig
from edgefel.training.losses import ReliabilityLoss, prior_targets
from edgefel.training.prior import read_prior, write_prior

FERPLUS = Path(__file__).parents[1] / "vectors" / "ferplus_prior.csv"
FERPLUS_LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
LABELS = torch.tensor([0, 1, 2, 3, 6, 7])


def data_set(labels: tuple[str, ...], soft: list[list[float] | None] | None = None) -> ImageDataset:
    rows = soft or [None] * len(labels)
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"),
            label=i % len(labels),
            group="",
            split="train",
            soft=None if row is None else tuple(row),
        )
        for i, row in enumerate(rows)
    )
    return ImageDataset(Path("faces"), labels, samples)


def logits() -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(4)).standard_normal((6, 8)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "settings", "value"),
    [("f-pdls", {"alpha": 0.8, "gamma": 2.0}, 2.4418125058), ("pdls", {"alpha": 0.5}, 2.7301501211)],
)
def test_published_numbers(kind, settings, value, dtype):
    prior = read_prior(str(FERPLUS), data_set(FERPLUS_LABELS)).to(dtype)
    loss = ReliabilityLoss(LossConfig(kind, **settings), prior).classification(
        logits().to(dtype).softmax(1), LABELS
    )
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_without_prior_and_focus_it_is_what_it_was():
    probabilities = logits().softmax(1)
    uniform = read_prior("uniform", data_set(FERPLUS_LABELS)).double()
    smoothed = ReliabilityLoss(LossConfig("pdls", alpha=0.89), uniform).classification(probabilities, LABELS)
    expected = ReliabilityLoss(LossConfig(smoothing=0.11)).classification(probabilities, LABELS)
    torch.testing.assert_close(smoothed, expected, atol=1e-7, rtol=0)
    plain = ReliabilityLoss(LossConfig("f-pdls", alpha=0.8, gamma=0.0), uniform).classification(
        probabilities, LABELS
    )
    unfocused = ReliabilityLoss(LossConfig("pdls", alpha=0.8), uniform).classification(probabilities, LABELS)
    torch.testing.assert_close(plain, unfocused)


def test_gradients_are_finite_where_a_class_is_certain_or_impossible():
    probabilities = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0 + 1e-7, 0.0]], requires_grad=True)
    prior = torch.full((3, 3), 1 / 3)
    for gamma in (0.5, 1.0, 2.0):
        loss = ReliabilityLoss(LossConfig("f-pdls", gamma=gamma), prior).classification(
            probabilities, torch.tensor([0, 2])
        )
        (gradient,) = torch.autograd.grad(loss, probabilities)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_soft_label_takes_rows_by_its_shares():
    prior = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    mixed = prior_targets(torch.tensor([[0.25, 0.75]]), prior, 0.5)
    torch.testing.assert_close(mixed, torch.tensor([[0.5 * 0.25 + 0.5 * 0.5, 0.5 * 0.75 + 0.5 * 0.5]]))
    hard = prior_targets(torch.tensor([1]), prior, 0.5)
    torch.testing.assert_close(hard, prior_targets(torch.tensor([[0.0, 1.0]]), prior, 0.5))


def test_a_file_is_read_by_names_and_more_classes_are_left_out():
    prior = read_prior(str(FERPLUS), data_set(("fear", "neutral")))
    torch.testing.assert_close(prior.sum(1), torch.ones(2))
    assert prior[1, 0] == pytest.approx(0.004379 / (0.004379 + 0.777334), abs=1e-7)


def test_votes_of_the_training_set():
    votes = [[0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [0.5, 0.5]]
    prior = read_prior("votes", data_set(("a", "b"), votes))
    torch.testing.assert_close(prior, torch.tensor([[0.8, 0.2], [0.4, 0.6]]))


@pytest.mark.parametrize("head", [True, False])
def test_confusions_of_an_evaluation(tmp_path, head):
    confusion, none = {"confusion": [[8, 2], [1, 3]]}, {"confusion": [[1, 1], [1, 1]]}
    judged = (
        {"with_head": confusion, "without_head": none}
        if head
        else {"with_head": None, "without_head": confusion}
    )
    found = {"labels": ["b", "a"]} | judged
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    prior = read_prior(str(tmp_path / "evaluation.json"), data_set(("a", "b")))
    torch.testing.assert_close(prior, torch.tensor([[0.75, 0.25], [0.2, 0.8]]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", None, "no such file; a prior is uniform"),
        ("p.csv", "", "must name the same classes"),
        ("p.csv", "class,a,b\na,1,2\n", "must name the same classes"),
        ("p.csv", "class,a,b\na,1,2\nb,x,2\n", "needs 2 numbers"),
        ("p.csv", "class,a,b\na,1,2\nb,1\n", "needs 2 numbers"),
        ("p.csv", "class,a,c\na,1,2\nc,1,2\n", "without the classes b; it has a, c"),
        ("p.csv", "class,a,b\na,1,2\nb,0,0\n", "numbers of 0 or more"),
        ("p.csv", "class,a,b\na,1,2\nb,-1,3\n", "numbers of 0 or more"),
        ("p.csv", "class,a,b\na,1,2\nb,nan,3\n", "numbers of 0 or more"),
        ("p.csv", "class,a,b,a\na,1,2,3\nb,1,2,3\na,1,2,3\n", "'a' occurs twice"),
        ("p.json", "{}", "no confusion matrix"),
        ("p.json", '{"labels": ["a", "b"], "with_head": {"confusion": [[1]]}}', "shape .1, 1. for 2 classes"),
        ("p.json", '{"labels": ["a"], "with_head": {"confusion": [["x"]]}}', "no confusion matrix"),
    ],
)
def test_files_that_are_no_prior(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(EdgefelError, match=message):
        read_prior(str(tmp_path / name), data_set(("a", "b")))


def test_no_votes_and_a_class_without_images():
    with pytest.raises(EdgefelError, match="no soft labels"):
        read_prior("votes", data_set(("a", "b")))
    with pytest.raises(EdgefelError, match="no training image"):
        read_prior("votes", data_set(("a", "b"), [[1.0, 0.0]]))


def test_settings():
    assert TrainConfig.from_dict({"loss": "f-pdls"}).loss == LossConfig(criterion="f-pdls")
    with pytest.raises(EdgefelError, match=r"loss\.criterion is 'focal'; choose one of"):
        TrainConfig.from_dict({"loss": "focal"})
    with pytest.raises(EdgefelError, match=r"loss\.alpha"):
        dataclasses.replace(LossConfig(), alpha=1.5)
    with pytest.raises(ValueError, match="needs a prior"):
        ReliabilityLoss(LossConfig("pdls"))


def test_a_stored_prior_has_the_same_bits(tmp_path):
    """Also with class names that CSV has to quote, and from six printed digits that do not sum to 1."""
    labels = ("neutral", 'joy, or "glee"', "sorrow")
    prior = torch.tensor([[0.333333, 0.333333, 0.333333], [0.1, 0.7, 0.2], [1 / 3, 1 / 7, 11 / 21]])
    write_prior(tmp_path / "prior.csv", labels, prior)
    assert torch.equal(read_prior(str(tmp_path / "prior.csv"), data_set(labels)), prior)
