"""The heads: reliability balancing (ARBEx section 3.3-3.4, GReFEL section 3.2-3.3), and plain linear."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.kernels.anchor_softmax.reference import anchor_softmax
from edgefel.kernels.reliability_balance.reference import confidence, correction, weighted_mean
from edgefel.models.config import ReliabilityConfig


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


class AttentiveCorrection(nn.Module):
    """t_a = softmax(W_c MHSA(e)), for each image separately.

    The authors' released code passes a 2-D tensor to the attention, which treats the batch as a sequence, so that a
    prediction depends on the other images of its batch. Here it does not.
    """

    def __init__(self, width: int, head_dim: int, num_classes: int) -> None:
        super().__init__()
        self.heads = width // head_dim
        self.scale = head_dim**-0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.to_logits = nn.Linear(width, num_classes)

    def forward(self, e: Tensor, tokens: Tensor) -> Tensor:
        """e: [B, E], the query; tokens: [B, T, E], keys and values. Returns logits [B, C]."""
        q = self._split_heads(self.query(e).unsqueeze(1))  # [B, H, 1, D]
        k, v = self._split_heads(self.key(tokens)), self._split_heads(self.value(tokens))
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)  # [B, H, 1, T]
        out: Tensor = self.to_logits(self.project((weights @ v).transpose(1, 2).flatten(1)))
        return out

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def fold(self) -> nn.Linear:
        """The Linear [E -> C] that equals this module when the only token is `e` itself.

        The attention weight of a single token is 1, which leaves W_c (W_o (W_v e)).
        """
        with torch.no_grad():
            weight, bias = self.value.weight.double(), self.value.bias.double()
            for layer in (self.project, self.to_logits):
                following = layer.weight.double()
                weight, bias = following @ weight, following @ bias + layer.bias.double()
            like = self.to_logits.weight
            folded = nn.Linear(weight.shape[1], weight.shape[0], device=like.device, dtype=like.dtype)
            folded.weight.copy_(weight)
            folded.bias.copy_(bias)
        return folded


class ReliabilityHead(nn.Module):
    """Corrects a primary distribution by anchors and attention, each weighted by its confidence."""

    def __init__(self, width: int, num_classes: int, config: ReliabilityConfig) -> None:
        super().__init__()
        self.config = config
        self.implementation: backend.Choice = "auto"
        dim = config.embedding_dim
        self.reduce = nn.Identity() if dim == width else nn.Linear(width, dim)
        self.classifier = _classifier(dim, num_classes, config)
        self.anchors: nn.Parameter | None = None
        if config.anchors_per_class:
            anchors = torch.empty(num_classes, config.anchors_per_class, dim)
            # on meta torch would load its compiler for random numbers
            self.anchors = nn.Parameter(anchors if anchors.is_meta else anchors.normal_())
        self.attentive: AttentiveCorrection | None = None
        if config.attentive:
            self.attentive = AttentiveCorrection(dim, config.attention_head_dim, num_classes)
        self.folded: nn.Linear | None = None

    def forward(
        self, embedding: Tensor, tokens: Tensor | None = None, ramp: Tensor | float = 1.0
    ) -> Prediction:
        """Classifies; the prediction's `embedding` is reduced to [B, E].

        embedding: [B, D] of any encoder. tokens: [B, T, D] of the encoder; raises ValueError where attention_tokens is
        "patches" and there are none. ramp: the correction ramp, a factor in [0, 1] on the correction's weight; rises
        during training.
        """
        e = self.reduce(embedding)
        logits = self.classifier(e)
        attended = None if self.attentive is None else self._attentive_logits(e, tokens)
        if self._in_one_launch(e, ramp):
            from edgefel.kernels.reliability_balance.op import reliability_balance as fused

            balanced = fused(logits, e, self.anchors, attended, self.config.delta)
            return Prediction(logits, balanced.primary, balanced.probabilities, balanced.confidence, e)
        primary = logits.softmax(dim=-1)
        correcting = correction(self._geometric(e), attended)
        if correcting is None:
            probabilities = primary.clone()
        else:
            probabilities = weighted_mean(
                primary, correcting, confidence(primary), ramp * confidence(correcting), ramp
            )
        return Prediction(logits, primary, probabilities, confidence(probabilities), e)

    def _in_one_launch(self, e: Tensor, ramp: Tensor | float) -> bool:
        """Whether the fused kernel applies: it has no gradient and gives the correction its full weight."""
        full = isinstance(ramp, float | int) and ramp == 1.0
        return full and not torch.is_grad_enabled() and backend.uses_triton(self.implementation, e)

    def _geometric(self, e: Tensor) -> Tensor | None:
        if self.anchors is None:
            return None
        soften = anchor_softmax
        if backend.uses_triton(self.implementation, e):
            from edgefel.kernels.anchor_softmax.op import anchor_softmax as soften
        return soften(e, self.anchors, self.config.delta)

    def _attentive_logits(self, e: Tensor, tokens: Tensor | None) -> Tensor:
        assert self.attentive is not None
        if self.folded is not None:
            folded: Tensor = self.folded(e)
            return folded
        if self.config.attention_tokens == "embedding":
            attended_to = e.unsqueeze(1)
        elif tokens is None:
            raise ValueError("attention_tokens is 'patches', which needs the encoder's tokens [B, T, D]")
        else:
            attended_to = self.reduce(tokens)
        logits: Tensor = self.attentive(e, attended_to)
        return logits

    def class_axes(self) -> dict[str, int]:
        """Name of each `state_dict` entry with one row per class -> the axis of those rows."""
        last = f"classifier.{len(self.classifier) - 1}"
        ends = (last, "attentive.to_logits", "folded")
        names = {"anchors", *(f"{end}.{kind}" for end in ends for kind in ("weight", "bias"))}
        return {name: 0 for name in self.state_dict() if name in names}

    def fold_attention(self) -> None:
        """For inference: replaces single-token attention by the equivalent matrix."""
        if self.attentive is not None and self.config.attention_tokens == "embedding":
            self.folded = self.attentive.fold()


class LinearHead(nn.Module):
    """POSTER++'s own head: one Linear; nothing is corrected."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)
        self.anchors = None

    def forward(
        self, embedding: Tensor, tokens: Tensor | None = None, ramp: Tensor | float = 1.0
    ) -> Prediction:
        """embedding: [B, D]. `tokens` and `ramp` are ignored; they match the other head's call."""
        logits = self.linear(embedding)
        primary = logits.softmax(dim=-1)
        probabilities = primary.clone()
        return Prediction(logits, primary, probabilities, confidence(probabilities), embedding)

    def class_axes(self) -> dict[str, int]:
        """As `ReliabilityHead.class_axes`."""
        return {"linear.weight": 0, "linear.bias": 0}

    def fold_attention(self) -> None:
        """Nothing to fold."""


def _classifier(dim: int, num_classes: int, config: ReliabilityConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for hidden in config.hidden:
        norm, drop = nn.BatchNorm1d(hidden), nn.Dropout(config.dropout)
        layers += [nn.Linear(dim, hidden), nn.ReLU(), *((norm, drop) if config.norm_first else (drop, norm))]
        dim = hidden
    return nn.Sequential(*layers, nn.Linear(dim, num_classes))
