"""Every loss against plain float64 loops over the formula."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from edgefel.training.config import LossConfig
from edgefel.training.losses import (
    ReliabilityLoss,
    anchor_loss,
    center_loss,
    correction_ramp,
    mean_squared_distance,
    taught_targets,
)

B, C, K, E = 5, 7, 3, 11


class Output(NamedTuple):
    probabilities: Tensor
    embedding: Tensor


def classification_loss(probabilities: Tensor, target: Tensor, smoothing: float) -> Tensor:
    return ReliabilityLoss(LossConfig(smoothing=smoothing)).classification(probabilities, target)


@pytest.fixture
def case() -> tuple[Output, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.randn(B, C, generator=generator).softmax(1)
    embedding = torch.randn(B, E, generator=generator)
    anchors = torch.randn(C, K, E, generator=generator)
    return Output(probabilities, embedding), torch.tensor([0, 6, 2, 2, 5]), anchors


def pairs(anchors: Tensor) -> list[float]:
    points = anchors.double().reshape(-1, E).tolist()
    return [
        sum((a - b) ** 2 for a, b in zip(points[m], points[n], strict=True)) / E
        for m in range(len(points))
        for n in range(len(points))
        if m != n
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.11, 0.5])
def test_classification_loss_is_the_smoothed_nll(case, smoothing):
    output, target, _ = case
    expected = 0.0
    for b, row in enumerate(output.probabilities.double().tolist()):
        for c, p in enumerate(row):
            y = (1 - smoothing) * (c == int(target[b])) + smoothing / C
            expected -= y * math.log(p) / B
    actual = classification_loss(output.probabilities, target, smoothing)
    assert actual.item() == pytest.approx(expected, rel=1e-6)


def test_soft_labels_reduce_to_hard_ones_and_mix_linearly(case):
    output, target, anchors = case
    one_hot = torch.nn.functional.one_hot(target, C).float()
    for smoothing in (0.0, 0.11):
        hard = classification_loss(output.probabilities, target, smoothing)
        soft = classification_loss(output.probabilities, one_hot, smoothing)
        torch.testing.assert_close(soft, hard)
    torch.testing.assert_close(
        center_loss(output.embedding, one_hot, anchors), center_loss(output.embedding, target, anchors)
    )
    other = torch.nn.functional.one_hot((target + 1) % C, C).float()
    mixed = center_loss(output.embedding, 0.3 * one_hot + 0.7 * other, anchors)
    parts = [center_loss(output.embedding, y, anchors) for y in (one_hot, other)]
    torch.testing.assert_close(mixed, 0.3 * parts[0] + 0.7 * parts[1])


def test_a_probability_of_zero_gives_a_finite_loss_and_gradient():
    probabilities = torch.zeros(2, C)
    probabilities[:, 0] = 1.0
    probabilities.requires_grad_()
    loss = classification_loss(probabilities, torch.tensor([3, 0]), 0.11)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probabilities.grad).all()


PRIOR = torch.rand(C, C, generator=torch.Generator().manual_seed(8))
PRIOR /= PRIOR.sum(1, keepdim=True)


@pytest.mark.parametrize("criterion", ["cross-entropy", "pdls", "f-pdls"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_teacher_has_its_share_of_smoothed_targets(case, criterion, soft):
    output, target, anchors = case
    teacher = torch.rand(B, C, generator=torch.Generator().manual_seed(4))
    teacher /= teacher.sum(1, keepdim=True)
    teacher[3] = 0.0  # an image that it did not see
    given = torch.rand(B, C, generator=torch.Generator().manual_seed(5)).softmax(1) if soft else target
    hard = torch.eye(C, dtype=torch.float64)[target]
    expected = 0.0
    for b, p in enumerate(output.probabilities.double().tolist()):
        y = (given.double() if soft else hard)[b]
        own = 0.8 * y + 0.2 * (y @ PRIOR.double()) if "pdls" in criterion else 0.89 * y + 0.11 / C
        w = 0.0 if b == 3 else 0.3
        for c in range(C):
            power = (1 - p[c]) ** 2 if criterion == "f-pdls" else 1.0
            blended = (1 - w) * own[c].item() + w * teacher[b, c].double().item()
            expected -= power * blended * math.log(p[c]) / B
    loss = ReliabilityLoss(LossConfig(criterion=criterion, teacher_weight=0.3), PRIOR)
    terms = loss(output, given, anchors, auxiliary=output.probabilities, teacher=teacher)
    assert terms.classification.item() == pytest.approx(expected, rel=1e-5)
    assert terms.auxiliary.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(terms.center, loss(output, given, anchors).center)  # anchors go by the label


def test_targets_with_a_teacher_are_distributions():
    own, teacher = torch.rand(4, C).softmax(1), torch.rand(4, C).softmax(1)
    assert taught_targets(own, None, 0.5) is own
    torch.testing.assert_close(taught_targets(own, teacher, 1.0), teacher)
    torch.testing.assert_close(taught_targets(own, teacher, 0.7).sum(1), torch.ones(4))


def test_unbounded_anchor_loss_is_minus_the_mean_over_pairs(case):
    anchors = case[2]
    distances = pairs(anchors)
    expected = sum(distances) / len(distances)
    assert mean_squared_distance(anchors).item() == pytest.approx(expected, rel=1e-6)
    assert anchor_loss(anchors, "unbounded", 1.0).item() == pytest.approx(-expected, rel=1e-6)


@pytest.mark.parametrize("margin", [0.5, 2.0, 100.0])
def test_hinge_anchor_loss(case, margin):
    anchors = case[2]
    distances = pairs(anchors)
    expected = sum(max(0.0, margin - d) for d in distances) / len(distances)
    assert anchor_loss(anchors, "hinge", margin).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_hinge_and_unbounded_share_their_gradient_inside_the_margin(case):
    gradients = []
    for kind in ("unbounded", "hinge"):
        anchors = case[2].double().requires_grad_()
        anchor_loss(anchors, kind, 1e3).backward()
        gradients.append(anchors.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_anchor_gradients_are_finite_where_anchors_coincide():
    for kind in ("unbounded", "hinge"):
        anchors = torch.zeros(C, K, E, requires_grad=True)
        anchor_loss(anchors, kind, 1.0).backward()
        assert torch.isfinite(anchors.grad).all()


def test_center_loss_takes_the_nearest_anchor_of_the_own_class(case):
    output, target, anchors = case
    expected = 0.0
    for b in range(B):
        e = output.embedding[b].double().tolist()
        own = anchors[int(target[b])].double().tolist()
        expected += min(sum((x - y) ** 2 for x, y in zip(e, a, strict=True)) for a in own) / E / B
    assert center_loss(output.embedding, target, anchors).item() == pytest.approx(expected, rel=1e-6)


def test_the_sum_is_weighted_and_the_ramp_fades_in_the_anchor_terms_only(case):
    output, target, anchors = case
    loss = ReliabilityLoss(LossConfig(lambda_cls=2.0, lambda_anchor=3.0, lambda_center=5.0))
    terms = loss(output, target, anchors, ramp=0.25)
    expected = 2.0 * terms.classification + 0.25 * (3.0 * terms.anchor + 5.0 * terms.center)
    torch.testing.assert_close(terms.total, expected)
    torch.testing.assert_close(terms.classification, classification_loss(output.probabilities, target, 0.11))
    distances = pairs(anchors)
    assert terms.spread.item() == pytest.approx(math.sqrt(sum(distances) / len(distances)), rel=1e-6)
    assert loss(output, target, anchors, ramp=0.0).total.item() == pytest.approx(
        2.0 * terms.classification.item(), rel=1e-6
    )


@pytest.mark.parametrize("anchors", [None, torch.zeros(C, 0, E)])
def test_without_anchors_there_is_only_the_classification_loss(case, anchors):
    output, target, _ = case
    terms = ReliabilityLoss(LossConfig())(output, target, anchors)
    assert terms.total == terms.classification
    assert terms.anchor == terms.center == terms.spread == 0


def test_the_ramp_rises_from_zero_to_one():
    assert [correction_ramp(s, 5) for s in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert correction_ramp(0, 1) == 0.0
