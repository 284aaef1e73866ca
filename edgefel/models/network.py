"""Whole networks: encoder and head."""

from __future__ import annotations

from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.models.apvit import APViTEncoder
from edgefel.models.config import STREAM_SIZE, APViTConfig, ModelConfig
from edgefel.models.encoder import Encoder, WindowCrossAttention
from edgefel.models.reliability import LinearHead, Prediction, ReliabilityHead
from edgefel.models.resizer import NeuralResizer
from edgefel.models.vit import ViTBlock


class FacialExpressionModel(nn.Module):
    """Resizer, encoder and head, by the classes of their configurations.

    ARBEx/GReFEL is the pyramid with the reliability head, POSTER++ the same with one Linear, APViT its own encoder with
    one Linear; every other combination works too.

    attention: implementation of window cross-attention, token pooling and reliability balancing: "reference" (plain
    PyTorch), "triton" (the fused kernels, or an error), or "auto" (Triton on CUDA). Weights and results are the same;
    the choice is not a part of the configuration and is not saved.
    """

    def __init__(self, config: ModelConfig, attention: backend.Choice = "auto") -> None:
        super().__init__()
        self.config = config
        self.resizer = None if config.resizer is None else NeuralResizer(config.resizer)
        self.encoder: Encoder | APViTEncoder = (
            APViTEncoder(config.encoder)
            if isinstance(config.encoder, APViTConfig)
            else Encoder(config.encoder)
        )
        width = config.encoder.width
        self.head: ReliabilityHead | LinearHead = (
            LinearHead(width, config.num_classes)
            if config.head is None
            else ReliabilityHead(width, config.num_classes, config.head)
        )
        self.use_attention(attention)

    def use_attention(self, attention: backend.Choice) -> FacialExpressionModel:
        """Chooses "auto", "reference" or "triton"; raises EdgefelError for anything else. Returns the model."""
        backend.check_choice(attention)
        for module in self.modules():
            if isinstance(module, WindowCrossAttention | ReliabilityHead | APViTEncoder | ViTBlock):
                module.implementation = attention
        return self

    def class_axes(self) -> dict[str, int]:
        """Name of each `state_dict` entry with one row per class -> the axis of those rows.

        All other entries are independent of the classes. For code that permutes, adds or removes classes.
        """
        return {f"head.{name}": axis for name, axis in self.head.class_axes().items()}

    def forward(self, image: Tensor, ramp: Tensor | float = 1.0) -> Prediction:
        """Labels aligned face crops; in evaluation mode no entry depends on the other images of the batch.

        image: [B, 3, S, S], RGB, ImageNet mean and standard deviation removed; S a multiple of 112, or the configured
        input size with a resizer. ramp: the correction ramp, a factor in [0, 1] on the correction's weight; below 1 in
        training only.
        """
        embedding, tokens = self.encoder(self.resize(image))
        prediction: Prediction = self.head(embedding, tokens, ramp)
        return prediction

    def forward_features(self, image: Tensor) -> Tensor:
        """Resizer and streams: images as in `forward` -> the encoder's tokens [B, N, D], without positions."""
        return self.encoder.forward_features(self.resize(image))

    def resize(self, image: Tensor) -> Tensor:
        """The encoder's input; raises ValueError for a size that the model cannot take."""
        height, width = image.shape[-2:]
        if self.resizer is not None:
            size = self.config.input_size
            if not height == width == size:
                raise ValueError(
                    f"image: expected [B, 3, {size}, {size}] for the resizer, got {tuple(image.shape)}"
                )
            resized: Tensor = self.resizer(image)
            return resized
        if height != width or width % STREAM_SIZE:
            raise ValueError(
                f"image: expected [B, 3, S, S] with S a multiple of {STREAM_SIZE}, got {tuple(image.shape)}"
            )
        return image
