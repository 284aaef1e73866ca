"""Model configurations: frozen dataclasses, checked at construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_fields, check_shape

STREAM_SIZE = 112  # both streams take a 112x112 image, whatever the input size (POSTER++ section 3)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise EdgefelError(f"model config: {message}")


def _check_least(config: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        sizes = value if isinstance(value, tuple) else (value,)
        _check(min(sizes, default=least) >= least, f"{name} must be at least {least}, got {value}")


def _check_triples(config: EncoderConfig | APViTConfig, *names: str) -> None:
    for name in names:
        values = getattr(config, name)
        _check(
            len(values) == 3 and all(v >= 1 for v in values), f"{name} needs 3 positive values, got {values}"
        )


def _check_heads(width: int, heads: int) -> None:
    _check(width % heads == 0, f"width {width} is not divisible by {heads} heads")


def _check_side(name: str, side: int) -> None:
    fits = side >= STREAM_SIZE and side % STREAM_SIZE == 0
    _check(fits, f"{name} must be a multiple of {STREAM_SIZE}, got {side}")


@dataclass(frozen=True)
class EncoderConfig:
    """The window cross-attention pyramid (POSTER++, arXiv 2301.12149). Defaults are the published size.

    image_stem, image_widths, image_units: IR-50 stem width; width and residual units of its three bodies.
    landmark_widths, landmark_units: MobileFaceNet output widths F1..F3; residual blocks per stage.
    windows, heads: window side and attention heads per level; the head width is image_widths[i] / heads[i].
    width, depth, vit_heads: the ViT over the 147 tokens.
    drop_path: stochastic depth rate of the fusion block per level.
    query_projection: project the landmark query with a Linear (written in ARBEx, absent in POSTER++).
    """

    image_stem: int = 64
    image_widths: tuple[int, int, int] = (64, 128, 256)
    image_units: tuple[int, int, int] = (3, 4, 14)
    landmark_widths: tuple[int, int, int] = (64, 128, 512)
    landmark_units: tuple[int, int, int] = (4, 6, 2)
    windows: tuple[int, int, int] = (28, 14, 7)
    heads: tuple[int, int, int] = (2, 4, 8)
    width: int = 768
    depth: int = 2
    vit_heads: int = 8
    mlp_ratio: float = 4.0
    drop_path: tuple[float, float, float] = (0.0, 0.125, 0.25)
    layer_scale: float = 1e-5
    query_projection: bool = False

    def __post_init__(self) -> None:
        _check_triples(
            self, "image_widths", "image_units", "landmark_widths", "landmark_units", "windows", "heads"
        )
        for width, heads in zip(self.image_widths, self.heads, strict=True):
            _check_heads(width, heads)
        for level in (0, 1):
            _check(
                self.image_widths[level] == self.landmark_widths[level],
                f"level {level + 1} joins the streams, so their widths must agree: image_widths "
                f"{self.image_widths}, landmark_widths {self.landmark_widths}",
            )
        _check_heads(self.width, self.vit_heads)
        rates = self.drop_path
        _check(all(0 <= rate < 1 for rate in rates), f"drop_path rates must be in [0, 1): {rates}")


@dataclass(frozen=True)
class APViTConfig:
    """The encoder of APViT (arXiv 2212.05463). Defaults are the published size.

    image_stem, image_widths, image_units: the image stream, as in EncoderConfig.
    width, vit_heads, mlp_ratio: the ViT; it has one block for each entry of `keep_rates`.
    keep_patches: how many of the 196 patches enter it (attentive patch pooling).
    keep_rates: the share of its tokens that each block keeps (attentive token pooling); 1 keeps all.
    """

    image_stem: int = 64
    image_widths: tuple[int, int, int] = (64, 128, 256)
    image_units: tuple[int, int, int] = (3, 4, 14)
    width: int = 768
    vit_heads: int = 8
    mlp_ratio: float = 3.0
    keep_patches: int = 160
    keep_rates: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9)

    def __post_init__(self) -> None:
        _check_triples(self, "image_widths", "image_units")
        _check_heads(self.width, self.vit_heads)
        _check(1 <= self.keep_patches <= 196, f"keep_patches must be from 1 to 196, got {self.keep_patches}")
        rates = self.keep_rates
        fits = len(rates) >= 1 and all(0 < rate <= 1 for rate in rates)
        _check(fits, f"keep_rates needs a rate in (0, 1] for each block, got {rates}")


RESIZER_SIDES = (48, 384)  # smallest and largest input of a resizer; FER+ has 48 x 48


@dataclass(frozen=True)
class ResizerConfig:
    """A Neural Resizer in front of the encoder (arXiv 2204.02181).

    channels, blocks: width n and number r of residual blocks.
    output_size: side of the output, a multiple of 112.
    scale: the factor by which coordinates are resized; None is output_size / input_size. The published network takes
        0.584 for 384 to 224: 224.256 is rounded down.
    """

    channels: int = 16
    blocks: int = 1
    output_size: int = 224
    scale: float | None = None

    def __post_init__(self) -> None:
        _check_least(self, 1, "channels")
        _check_least(self, 0, "blocks")
        _check_side("output_size of the resizer", self.output_size)
        scale = self.scale
        _check(scale is None or scale > 0, f"scale of the resizer must be positive, got {scale}")


@dataclass(frozen=True)
class ReliabilityConfig:
    """The reliability balancing head (ARBEx section 3.3-3.4, GReFEL section 3.2-3.3).

    embedding_dim: width E of the embedding; equal to the encoder's width means no reduction (GReFEL).
    hidden, dropout: hidden widths and dropout rate of the primary classifier.
    norm_first: BatchNorm before Dropout (the released code), not after it (the paper). Equal in evaluation mode.
    anchors_per_class, delta: K, where 0 turns the anchor branch off; temperature of the anchor-distance softmax.
    attentive, attention_head_dim: whether the attentive correction branch exists (the released checkpoints lack it);
        width of one of its heads.
    attention_tokens: "embedding" attends over the single embedding token (literal reading; equal to one
        matrix), "patches" queries the encoder's tokens with the embedding.
    """

    embedding_dim: int = 128
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.5
    norm_first: bool = False
    anchors_per_class: int = 10
    delta: float = 1.0
    attentive: bool = True
    attention_head_dim: int = 64
    attention_tokens: Literal["embedding", "patches"] = "embedding"

    def __post_init__(self) -> None:
        _check_least(self, 1, "embedding_dim", "hidden")
        _check_least(self, 0, "anchors_per_class")
        _check(0 <= self.dropout < 1, f"dropout must be in [0, 1), got {self.dropout}")
        _check(self.delta > 0, f"delta must be positive, got {self.delta}")
        width, head, tokens = self.embedding_dim, self.attention_head_dim, self.attention_tokens
        fits = not self.attentive or width % head == 0
        _check(fits, f"embedding_dim {width} is not a multiple of attention_head_dim {head}")
        known = tokens in ("embedding", "patches")
        _check(known, f"attention_tokens must be 'embedding' or 'patches', got {tokens!r}")


@dataclass(frozen=True)
class ModelConfig:
    """A whole network.

    encoder: its class selects the network.
    head: None is a plain linear classifier, as in POSTER++ and APViT.
    resizer: in front of the encoder, or None. With one, `input_size` is the resizer's.
    """

    name: str
    num_classes: int = 7
    input_size: int = 224
    encoder: EncoderConfig | APViTConfig = EncoderConfig()
    head: ReliabilityConfig | None = ReliabilityConfig()
    resizer: ResizerConfig | None = None

    def __post_init__(self) -> None:
        _check_least(self, 2, "num_classes")
        if self.resizer is None:
            _check_side("input_size", self.input_size)
            return
        side, (low, high) = self.input_size, RESIZER_SIDES
        _check(low <= side <= high, f"input_size of a resizer must be from {low} to {high}, got {side}")
        scale, output = self.resizer.scale, self.resizer.output_size
        fits = scale is None or int(side * scale) == output
        _check(fits, f"a resizer with scale {scale} makes no {output} of {side}; leave out the scale")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self) | {
            "encoder": {"kind": _KINDS[type(self.encoder)]} | dataclasses.asdict(self.encoder)
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; raises EdgefelError naming unknown or missing entries."""
        check_shape(data, {"encoder?": {"kind?": str}, "head?": dict, "resizer?": dict}, "model config")
        data = dict(data)
        encoder = dict(data.get("encoder") or {})
        kind = encoder.pop("kind", "window-pyramid")  # files older than the second encoder name none
        _check(kind in _ENCODERS, f"unknown encoder {kind!r}; known: {', '.join(_ENCODERS)}")
        data["encoder"] = _build(_ENCODERS[kind], encoder)
        for name, part in (("head", ReliabilityConfig), ("resizer", ResizerConfig)):
            value = data.get(name)
            data[name] = None if value is None else _build(part, value)
        built: ModelConfig = _build(cls, data)
        return built


_MOST_WIDTH, _MOST_LAYERS = 1 << 16, 256
_LAYERS = ("image_units", "landmark_units", "depth", "blocks")
_ENCODERS: dict[str, type] = {"window-pyramid": EncoderConfig, "apvit": APViTConfig}
_KINDS = {kind: name for name, kind in _ENCODERS.items()}


def _build(cls: type, data: dict[str, Any]) -> Any:
    check_fields(data, cls, "model config")
    for name, value in data.items():
        sizes = [size for size in (value if isinstance(value, list) else [value]) if isinstance(size, int)]
        # larger sizes are no real network, and would take hours, or all memory, to refuse later
        most = _MOST_LAYERS if name in _LAYERS else _MOST_WIDTH
        _check(all(abs(size) <= most for size in sizes), f"{name} must be at most {most}, got {value}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})
