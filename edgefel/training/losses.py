"""The three losses of reliability balancing, and their weighted sum.

Sources: ARBEx (arXiv 2305.01486) section 3.4, GReFEL section 3.3; PDLS and F-PDLS: arXiv 2204.02181.
Shapes: batch B, classes C, anchors per class K, embedding width E.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefel.models.reliability import Prediction
from edgefel.training.config import LossConfig

# log(1e-7) = -16.1. Smaller probabilities count as this one, so that a single confident mistake neither makes the
# loss infinite nor dominates a batch.
PROBABILITY_FLOOR = 1e-7


def _wide(x: Tensor) -> Tensor:
    """`x` in at least float32: sums in half precision lose what the losses measure."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class LossTerms(NamedTuple):
    """Scalars (0-d tensors): the weighted sum, and the unweighted terms for the log.

    `spread`: root mean squared distance per dimension between different anchors. It shows whether an unbounded anchor
    loss diverges.
    """

    total: Tensor
    classification: Tensor
    anchor: Tensor
    center: Tensor
    spread: Tensor
    auxiliary: Tensor


def smooth_targets(target: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """[B, C] float32 target distributions: `(1 - smoothing) * y + smoothing / C`.

    `target` is int64 [B] class indices, or float [B, C] distributions (soft labels); `smoothing` is in [0, 1), 0.11 in
    the paper (ARBEx table 3).
    """
    distribution = target if target.is_floating_point() else F.one_hot(target, num_classes).float()
    return distribution * (1.0 - smoothing) + smoothing / num_classes


def prior_targets(target: Tensor, prior: Tensor, alpha: float) -> Tensor:
    """[B, C] targets of PDLS (arXiv 2204.02181): `alpha * y + (1 - alpha) * prior[y]`.

    `target` as in `smooth_targets`; `prior` [C, C], row y the mean distribution of annotators for images of class y. A
    soft label weights the rows of the prior by its shares.
    """
    distribution = target.to(prior) if target.is_floating_point() else F.one_hot(target, len(prior)).to(prior)
    return alpha * distribution + (1.0 - alpha) * distribution @ prior


def taught_targets(own: Tensor, teacher: Tensor | None, weight: float) -> Tensor:
    """[B, C] targets of distillation (arXiv 1503.02531): `(1 - weight) * own + weight * teacher`.

    `own` and `teacher` [B, C] distributions; a row of zeros is an image that the teacher did not see, and stays `own`.
    """
    if teacher is None:
        return own
    teacher = teacher.to(own)
    return (1.0 - weight * teacher.sum(1, keepdim=True)) * own + weight * teacher


def focal_nll(probabilities: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """`L_cls = -mean_b Σ_c (1 - p_bc)^gamma t_bc log max(p_bc, 1e-7)`, of [B, C] distributions; gamma 0 is the NLL."""
    p = _wide(probabilities)
    terms = targets * p.clamp_min(PROBABILITY_FLOOR).log()
    if gamma:
        # a probability rounded to above 1 has no real power, and powers below 1 of zero have no finite slope
        terms = terms * (1.0 - p).clamp_min(PROBABILITY_FLOOR).pow(gamma)
    return -terms.sum(1).mean()


def mean_squared_distance(anchors: Tensor) -> Tensor:
    """Mean of `‖a_m - a_n‖² / E` over all pairs m ≠ n of the C·K anchors of [C, K, E].

    Without the quadratic number of pairs: the sum over ordered pairs of M points is `2M Σ_m ‖a_m - ā‖²`.
    """
    points = _wide(anchors).flatten(0, 1)
    centred = points - points.mean(0)
    return 2.0 * centred.square().sum() / (max(points.shape[0] - 1, 1) * points.shape[1])


def anchor_loss(anchors: Tensor, kind: str, margin: float) -> Tensor:
    """`L_a`, which pushes anchors [C, K, E] apart; d² = ‖a_m - a_n‖² / E over pairs of different anchors.

    "unbounded" (the papers): `-mean d²`, which has no lower bound.
    "hinge": `mean max(0, margin - d²)`, the same gradient until a pair is `margin` apart, then none.
    """
    if kind == "unbounded":
        return -mean_squared_distance(anchors)
    points = _wide(anchors).flatten(0, 1)
    # ‖a‖² + ‖b‖² - 2ab of centred points: no square root, so the gradient is finite where anchors coincide
    points = points - points.mean(0)
    norms = points.square().sum(1)
    squared = norms[:, None] + norms[None, :] - 2.0 * points @ points.T
    first, second = torch.triu_indices(len(points), len(points), offset=1, device=points.device)
    return F.relu(margin - squared[first, second] / points.shape[1]).mean()


def center_loss(embedding: Tensor, target: Tensor, anchors: Tensor) -> Tensor:
    """`L_c = mean_b min_k ‖e_b - a_{y_b,k}‖² / E`, which pulls embeddings to an anchor of their class.

    Args: `embedding` [B, E]; `anchors` [C, K, E]; `target` int64 [B], or float [B, C]: then the mean over
    classes weighted by the target, which is the same for a one-hot row.
    """
    embedding, anchors = _wide(embedding), _wide(anchors)
    if not target.is_floating_point():
        nearest = (embedding[:, None] - anchors[target]).square().sum(-1).amin(1)
        return nearest.mean() / embedding.shape[1]
    squared = (embedding[:, None, None] - anchors).square().sum(-1)  # [B, C, K]
    return (target * squared.amin(2)).sum(1).mean() / embedding.shape[1]


class DistillationTerms(NamedTuple):
    """Scalars (0-d tensors): the sum, and the mean squared errors of logits and of embeddings."""

    total: Tensor
    logits: Tensor
    embedding: Tensor


class SelfDistillationLoss:
    """`L = mean (z - z')² + mean (e - e')²` of logits z and embeddings e, whose targets are a network's own in FP32."""

    names = ("loss", "loss_logits", "loss_embedding")

    def __call__(
        self,
        prediction: Prediction,
        target: Tensor,
        anchors: Tensor | None,
        ramp: float = 1.0,
        auxiliary: Any = None,
        own: float = 1.0,
        teacher: Tensor | None = None,
    ) -> DistillationTerms:
        """Terms for one batch. auxiliary: the FP32 network's prediction; labels and all else are not used."""
        logits = F.mse_loss(_wide(prediction.logits), _wide(auxiliary.logits))
        embedding = F.mse_loss(_wide(prediction.embedding), _wide(auxiliary.embedding))
        return DistillationTerms(logits + embedding, logits, embedding)


class ReliabilityLoss:
    """`L = λ_cls L_cls + ramp · (λ_a L_a + λ_c L_c)`; classification alone for models without anchors.

    With deep supervision, plus `λ_aux` times the classification loss of the auxiliary classifier (not in
    the papers, which start from pretrained streams). The correction ramp is the factor by which the authors' released
    code fades in the anchor terms and the correction itself: pass the same value to the model.

    prior: [C, C], for pdls and f-pdls. Raises ValueError if they have none.
    """

    names = ("loss", "loss_classification", "loss_anchor", "loss_center", "anchor_spread", "loss_auxiliary")

    def __init__(self, config: LossConfig, prior: Tensor | None = None) -> None:
        if config.criterion != "cross-entropy" and prior is None:
            raise ValueError(f"{config.criterion} needs a prior")
        self.config, self.prior = config, prior

    def classification(self, probabilities: Tensor, target: Tensor, teacher: Tensor | None = None) -> Tensor:
        """The criterion: cross-entropy with label smoothing, PDLS or F-PDLS (arXiv 2204.02181). Returns a scalar.

        `probabilities` [B, C] rows that sum to 1; `target` int64 [B] or float [B, C]; `teacher` float [B, C] or None,
        mixed into what smoothing or the prior make of `target` (`taught_targets`).
        """
        config = self.config
        if self.prior is None or config.criterion == "cross-entropy":
            rows = smooth_targets(target, probabilities.shape[1], config.smoothing)
        else:
            self.prior = self.prior.to(probabilities.device)
            rows = prior_targets(target, self.prior, config.alpha)
        gamma = config.gamma if config.criterion == "f-pdls" else 0.0
        return focal_nll(probabilities, taught_targets(rows, teacher, config.teacher_weight), gamma)

    def __call__(
        self,
        prediction: Prediction,
        target: Tensor,
        anchors: Tensor | None,
        ramp: float = 1.0,
        auxiliary: Tensor | None = None,
        own: float = 1.0,
        teacher: Tensor | None = None,
    ) -> LossTerms:
        """Terms for one batch.

        Args: `target` int64 [B] or float [B, C]; `anchors` [C, K, E] or None; `auxiliary` probabilities
        [B, C] of the auxiliary classifier, or None; `own` is the factor on all terms but the auxiliary one;
        `teacher` as in `classification`.
        """
        config = self.config
        classification = self.classification(prediction.probabilities, target, teacher)
        zero = classification.new_zeros(())
        extra = zero if auxiliary is None else self.classification(auxiliary, target, teacher)
        total = own * config.lambda_cls * classification + config.lambda_auxiliary * extra
        if anchors is None or anchors.numel() == 0:
            return LossTerms(total, classification, zero, zero, zero, extra)
        apart = anchor_loss(anchors, config.anchor_loss, config.anchor_margin)
        center = center_loss(prediction.embedding, target, anchors)
        total = total + own * ramp * (config.lambda_anchor * apart + config.lambda_center * center)
        spread = mean_squared_distance(anchors.detach()).sqrt()
        return LossTerms(total, classification, apart, center, spread, extra)


def correction_ramp(step: int, total_steps: int) -> float:
    """The factor at `step` (counted from 0): rises linearly from 0 at the first to 1 at the last step."""
    return min(1.0, step / max(total_steps - 1, 1))
