"""What one forward pass returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

OUTPUT_NAMES = ("logits", "primary", "probabilities", "confidence", "embedding")


class Prediction(NamedTuple):
    """One forward pass. B images, C classes, E embedding width; all floating point.

    logits: [B, C], of the primary classifier.
    primary: [B, C], softmax of the logits, before correction.
    probabilities: [B, C], after reliability balancing; the label is its argmax. Equal to `primary` for
        models without a reliability head.
    confidence: [B], 1 - normalized entropy of `probabilities`, in [0, 1].
    embedding: [B, E], what the anchors are compared with.
    """

    logits: Tensor
    primary: Tensor
    probabilities: Tensor
    confidence: Tensor
    embedding: Tensor
