"""Which fused kernels a model runs at inference, for compiling them ahead of time."""

from __future__ import annotations

from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.specs import KernelSpec, anchor_spec, attention_spec, balance_spec
from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.models.config import EncoderConfig, ModelConfig

# sides of the maps of the three levels (POSTER++ section 3)
_MAP_SIDES = (28, 14, 7)


def inference_kernels(config: ModelConfig, dtype: str = "fp16") -> list[KernelSpec]:
    """The kernels of one forward pass, in order. `dtype` is that of the attention; the head is FP32.

    Raises EdgefelError for an unknown dtype.
    """
    if dtype not in FLOAT_TYPES.values():
        raise EdgefelError(f"type '{dtype}': choose one of {', '.join(FLOAT_TYPES.values())}")
    specs = _attention(config.encoder, dtype) if isinstance(config.encoder, EncoderConfig) else []
    if config.head is not None:
        head = config.head
        per_class = head.anchors_per_class
        sizes = (config.num_classes, per_class, head.embedding_dim)
        specs.append(balance_spec(*sizes, head.attentive, head.delta))
        if per_class:
            specs.append(anchor_spec(*sizes, head.delta))
    return specs


def _attention(encoder: EncoderConfig, dtype: str) -> list[KernelSpec]:
    specs = []
    for level, side in enumerate(_MAP_SIDES):
        heads, width = encoder.heads[level], encoder.image_widths[level] // encoder.heads[level]
        window = min(encoder.windows[level], side)
        windows = (side // window) ** 2
        name = f"window_cross_attention_level{level + 1}"
        specs.append(attention_spec(name, window, heads, width, windows, dtype))
    return specs
