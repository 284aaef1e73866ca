"""The fused kernels of a model's inference, for ahead-of-time compilation."""

from __future__ import annotations

from collections.abc import Iterable

from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.kernel_spec import KernelSpec
from edgefel.kernels.ahead_of_time.specs import (
    anchor_spec,
    attention_spec,
    balance_spec,
    fused_attention_spec,
    patch_pooling_spec,
    token_pooling_spec,
)
from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.models.apvit import PATCHES, kept_counts
from edgefel.models.config import APViTConfig, EncoderConfig, ModelConfig
from edgefel.runtime.onnx_functions import FusedNode

# sides of the maps of the three levels (POSTER++ section 3)
_MAP_SIDES = (28, 14, 7)


def inference_kernels(config: ModelConfig, dtype: str = "fp16") -> list[KernelSpec]:
    """The kernels of one forward pass, in order. dtype: of attention and token pooling; the head is FP32.

    Raises EdgefelError for an unknown dtype.
    """
    if dtype not in FLOAT_TYPES.values():
        raise EdgefelError(f"type '{dtype}': choose one of {', '.join(FLOAT_TYPES.values())}")
    encoder = config.encoder
    specs = _pooling(encoder, dtype) if isinstance(encoder, APViTConfig) else _attention(encoder, dtype)
    if config.head is not None:
        head = config.head
        per_class = head.anchors_per_class
        sizes = (config.num_classes, per_class, head.embedding_dim)
        specs.append(balance_spec(*sizes, head.attentive, head.delta))
        if per_class:
            specs.append(anchor_spec(*sizes, head.delta))
    return specs


def bundle_kernels(config: ModelConfig, nodes: Iterable[FusedNode], dtype: str = "fp16") -> list[KernelSpec]:
    """`inference_kernels`, and those of the fused operators of a bundle's files, which replace others of their name."""
    named = {spec.name: spec for spec in (*inference_kernels(config, dtype), *fused_kernels(nodes))}
    return list(named.values())


def fused_kernels(nodes: Iterable[FusedNode]) -> list[KernelSpec]:
    """The kernels of an ONNX file's fused operators, one for each operator: what engines hold in their place."""
    specs: dict[str, KernelSpec] = {}
    for node in nodes:
        sizes = {name: value for name, value in node.attributes.items() if not isinstance(value, str)}
        width = int(sizes["width"])
        if "window" in sizes:
            window, heads = int(sizes["window"]), int(sizes["heads"])
            dtype = node.operator.rpartition("_")[2]
            specs[node.operator] = fused_attention_spec(window, heads, width, float(sizes["scale"]), dtype)
        else:
            counts = (int(sizes["classes"]), int(sizes["anchors"]), width, bool(sizes["attentive"]))
            specs[node.operator] = balance_spec(*counts, 1.0 / float(sizes["inverse_delta"]))
    return list(specs.values())


def _attention(encoder: EncoderConfig, dtype: str) -> list[KernelSpec]:
    specs = []
    for level, side in enumerate(_MAP_SIDES):
        heads, width = encoder.heads[level], encoder.image_widths[level] // encoder.heads[level]
        window = min(encoder.windows[level], side)
        windows = (side // window) ** 2
        name = f"window_cross_attention_level{level + 1}"
        specs.append(attention_spec(name, window, heads, width, windows, dtype))
    return specs


def _pooling(encoder: APViTConfig, dtype: str) -> list[KernelSpec]:
    """One launch for the patches, and one per block that drops tokens; each size has a name of its own."""
    specs = []
    before = encoder.keep_patches
    if before < PATCHES:
        specs.append(patch_pooling_spec(PATCHES, before, encoder.width, dtype))
    for number, after in enumerate(kept_counts(before, encoder.keep_rates), start=1):
        if after < before:
            name = f"pool_tokens_block{number}"
            specs.append(token_pooling_spec(name, encoder.vit_heads, before, after, encoder.width, dtype))
        before = after
    return specs
