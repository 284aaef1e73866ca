"""Deep supervision: a second classifier that only exists in training.

From scratch, the class token sees the face through attention that has yet to learn where to look, and for
hundreds of steps hardly any gradient reaches the two streams. A linear classifier on the tokens that they make
gives them one from the first step (Lee et al., Deeply-Supervised Nets, arXiv 1409.5185). Meanwhile the ViT and
the head had better wait (`auxiliary_steps`): what they learn from tokens that mean nothing yet is hard to unlearn.
The classifier is dropped when the model is saved; its weights live in the run's training state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgefel.models.network import FacialExpressionModel
from edgefel.models.reliability import Prediction


class SupervisedModel(nn.Module):
    """A model and, if `enabled`, its auxiliary classifier."""

    def __init__(self, model: FacialExpressionModel, enabled: bool) -> None:
        super().__init__()
        self.model = model
        self.auxiliary: nn.Linear | None = None
        if enabled:
            width = model.encoder.feature_tokens * model.config.encoder.width
            self.auxiliary = nn.Linear(width, model.config.num_classes)
            # Adam moves every weight by about the learning rate, whatever the number of inputs: unscaled, a
            # single step on 14,000 of them would move the logits by tens
            self.scale = 8.0 * width**-0.5
            nn.init.zeros_(self.auxiliary.weight)
            nn.init.zeros_(self.auxiliary.bias)

    def class_axes(self) -> dict[str, int]:
        """As of the model, with the auxiliary classifier."""
        axes = {f"model.{name}": axis for name, axis in self.model.class_axes().items()}
        return axes if self.auxiliary is None else {**axes, "auxiliary.weight": 0, "auxiliary.bias": 0}

    def forward(self, image: Tensor, trust: Tensor | float = 1.0) -> tuple[Prediction, Tensor | None]:
        """The model's prediction, and the auxiliary classifier's probabilities [B, C]."""
        if self.auxiliary is None:
            return self.model(image, ramp=trust), None
        features = self.model.forward_features(image)  # [B, N, D]
        embedding, tokens = self.model.encoder.forward_head(features)
        prediction: Prediction = self.model.head(embedding, tokens, trust)
        inputs = F.layer_norm(features, features.shape[-1:]).flatten(1) * self.scale
        return prediction, torch.softmax(self.auxiliary(inputs), dim=-1)
