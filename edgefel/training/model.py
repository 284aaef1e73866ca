"""The model of a run: its first weights and preprocessing, frozen streams, and deep supervision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.models.checkpoint import Initialization, initialize_from, read_preprocessing
from edgefel.models.network import FacialExpressionModel
from edgefel.models.registry import build_model, model_config
from edgefel.models.reliability import Prediction
from edgefel.training.config import TrainConfig
from edgefel.training.losses import ReliabilityLoss, SelfDistillationLoss
from edgefel.training.randomness import Purpose, derive_seed


def make_model(
    config: TrainConfig, labels: Sequence[str], starts: list[Initialization] | None = None
) -> FacialExpressionModel:
    """A model of these classes with weights that depend on the seed alone, initialized from `init_from` if set.

    What each checkpoint of `init_from` provided is appended to `starts`.
    """
    torch.manual_seed(derive_seed(config.seed, Purpose.WEIGHTS))
    model = build_model(config.model, num_classes=len(labels), **_tuples(config.model_settings))
    for path in config.init_from:
        start = initialize_from(model, path, labels)
        if starts is not None:
            starts.append(start)
    return model


def run_preprocessing(config: TrainConfig, resumed: Path | None = None) -> Preprocessing:
    """The preprocessing of the checkpoint that is resumed, else of the network in `init_from`, else the recipe's.

    Weights expect the framing they were trained with; imported backbones alone have none.
    Raises EdgefelError for an unknown model or checkpoint.
    """
    size = model_config(config.model, **_tuples(config.model_settings)).input_size
    # the weights of the last one remain
    for path in (resumed, *reversed(config.init_from)):
        if path is not None and (own := read_preprocessing(path)) is not None:
            return Preprocessing.from_dict(own).scaled(size)
    return default_preprocessing(size)


def _tuples(value: Any) -> Any:
    """YAML's lists as the tuples that model configurations hold."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


class Student(NamedTuple):
    """What learns, and its loss: (prediction, target, anchors, ramp, auxiliary, own, teacher) -> terms.

    model: gives what the loss takes as prediction and auxiliary. The loss has `names` of its terms, the total first.
    """

    model: SupervisedModel
    loss: ReliabilityLoss | SelfDistillationLoss


class SupervisedModel(nn.Module):
    """A model in training, with an auxiliary classifier if `supervised`, and with its streams frozen if `frozen`.

    From scratch, the class token sees the face through attention that has yet to learn where to look, and for hundreds
    of steps hardly any gradient reaches the two streams. A linear classifier on the streams' tokens gives them one from
    the first step (Lee et al., Deeply-Supervised Nets, arXiv 1409.5185). Until then the ViT and the head should wait
    (`auxiliary_steps`): what they learn from meaningless tokens is hard to unlearn. The classifier is not part of the
    saved model; its weights are in the run's training state.
    """

    def __init__(self, model: FacialExpressionModel, supervised: bool, frozen: bool = False) -> None:
        super().__init__()
        self.model = model
        self.auxiliary: nn.Linear | None = None
        if supervised:
            width = model.encoder.feature_tokens * model.config.encoder.width
            self.auxiliary = nn.Linear(width, model.config.num_classes)
            # Adam moves every weight by about the learning rate, whatever the number of inputs: unscaled, a
            # single step on 14,000 of them would move the logits by tens
            self.scale = 8.0 * width**-0.5
            nn.init.zeros_(self.auxiliary.weight)
            nn.init.zeros_(self.auxiliary.bias)
        self._frozen = [getattr(model.encoder, name) for name in model.encoder.backbones] if frozen else []
        for stream in self._frozen:
            stream.requires_grad_(False)

    def train(self, mode: bool = True) -> SupervisedModel:
        """Frozen streams stay in evaluation mode, which keeps their BatchNorm statistics."""
        super().train(mode)
        for stream in self._frozen:
            stream.eval()
        return self

    @property
    def judged(self) -> nn.Module:
        """What is validated: images -> Prediction."""
        return self.model

    def keep_in(self, run: Path) -> None:
        """Stores in the run folder what a resumed run needs from elsewhere."""

    def described(self) -> dict[str, Any]:
        """Entries of the checkpoint's `extra`."""
        return {}

    def class_axes(self) -> dict[str, int]:
        """As of the model, with the auxiliary classifier."""
        axes = {f"model.{name}": axis for name, axis in self.model.class_axes().items()}
        return axes if self.auxiliary is None else {**axes, "auxiliary.weight": 0, "auxiliary.bias": 0}

    def forward(self, image: Tensor, ramp: Tensor | float = 1.0) -> tuple[Prediction, Any]:
        """The model's prediction, and the auxiliary classifier's probabilities [B, C] or None."""
        if self.auxiliary is None:
            return self.model(image, ramp), None
        features = self.model.forward_features(image)  # [B, N, D]
        embedding, tokens = self.model.encoder.forward_head(features)
        prediction: Prediction = self.model.head(embedding, tokens, ramp)
        inputs = F.layer_norm(features, features.shape[-1:]).flatten(1) * self.scale
        return prediction, torch.softmax(self.auxiliary(inputs), dim=-1)


def supervised_student(config: TrainConfig, model: FacialExpressionModel, prior: Tensor | None) -> Student:
    """A model that learns from labels. prior: of `ReliabilityLoss`."""
    loss = config.loss
    supervised = SupervisedModel(model, loss.lambda_auxiliary > 0, config.freeze_backbones)
    return Student(supervised, ReliabilityLoss(loss, prior))
