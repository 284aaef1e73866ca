"""Reliability balancing head (ARBEx section 3.3-3.4, GReFEL section 3.2-3.3), and the plain linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.kernels.anchor_softmax import anchor_softmax
from edgefel.kernels.reliability_balance import confidence, correction, weighted_mean
from edgefel.models.config import ReliabilityConfig
from edgefel.models.outputs import Prediction


class AttentiveCorrection(nn.Module):
    """t_a = softmax(W_c MHSA(e)), each image on its own: the batch is never a sequence.

    The authors' released code feeds a 2-D tensor to the attention, which makes a prediction depend on its
    batch-mates; this one does not.
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
        """The single Linear [E -> C] that this module equals when the only token is `e` itself.

        The attention weight of a single token is 1, so what is left is W_c (W_o (W_v e)).
        """
        with torch.no_grad():
            wide = [
                (layer.weight.double(), layer.bias.double())
                for layer in (self.value, self.project, self.to_logits)
            ]
            weight, bias = wide[0]
            for next_weight, next_bias in wide[1:]:
                weight, bias = next_weight @ weight, next_weight @ bias + next_bias
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
            self.anchors = nn.Parameter(torch.randn(num_classes, config.anchors_per_class, dim))
        self.attentive: AttentiveCorrection | None = None
        if config.attentive:
            self.attentive = AttentiveCorrection(dim, config.attention_head_dim, num_classes)
        self.folded: nn.Linear | None = None

    def forward(
        self, embedding: Tensor, tokens: Tensor | None = None, ramp: Tensor | float = 1.0
    ) -> Prediction:
        """Classifies.

        Args:
            embedding: [B, D] of any encoder.
            tokens: [B, T, D] of the encoder; needed with attention_tokens = "patches" only.
            ramp: factor in [0, 1] on the weight of the correction; rises during training.

        Returns:
            Prediction, with `embedding` reduced to [B, E].

        Raises:
            ValueError: attention_tokens is "patches" and there are no tokens.
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
        """Whether the fused kernel applies: it has no gradient and weighs the correction fully."""
        plain = isinstance(ramp, float | int) and ramp == 1.0
        return plain and not torch.is_grad_enabled() and backend.uses_triton(self.implementation, e)

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
        if self.config.attention_tokens == "patches":
            if tokens is None:
                raise ValueError("attention_tokens is 'patches', which needs the encoder's tokens [B, T, D]")
            logits: Tensor = self.attentive(e, self.reduce(tokens))
        else:
            logits = self.attentive(e, e.unsqueeze(1))
        return logits

    def class_axes(self) -> dict[str, int]:
        """The axis along which an entry of `state_dict` has one row for each class, by the entry's name."""
        last = f"classifier.{len(self.classifier) - 1}"
        ends = (last, "attentive.to_logits", "folded")
        names = ["anchors", *(f"{end}.{kind}" for end in ends for kind in ("weight", "bias"))]
        there = self.state_dict()
        return {name: 0 for name in names if name in there}

    def fold_attention(self) -> None:
        """For inference: replaces single-token attention by the one matrix it equals."""
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
        """embedding: [B, D]. `tokens` and `ramp` are accepted for the same call as the other head."""
        logits = self.linear(embedding)
        primary = logits.softmax(dim=-1)
        probabilities = primary.clone()
        return Prediction(logits, primary, probabilities, confidence(probabilities), embedding)

    def class_axes(self) -> dict[str, int]:
        """As of the other head."""
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
