"""Names of models and what they stand for."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.kernels.backend import Choice
from edgefel.models.config import EncoderConfig, ModelConfig, ReliabilityConfig
from edgefel.models.network import FacialExpressionModel

NANO_ENCODER = EncoderConfig(
    image_stem=8,
    image_widths=(8, 16, 32),
    image_units=(1, 2, 2),
    landmark_widths=(8, 16, 32),
    landmark_units=(1, 1, 1),
    # four windows on the first level: a quarter of its attention's cost, and the partition is in use
    windows=(14, 14, 7),
    heads=(1, 1, 2),
    width=96,
    vit_heads=4,
    mlp_ratio=2.0,
    # at this size the fusion branches are most of the network: they should learn from the first step
    layer_scale=0.1,
    drop_path=(0.0, 0.0, 0.0),
)

# the paper's dropout of one half, on a network this small and a training this short, mostly delays it
NANO_HEAD = ReliabilityConfig(embedding_dim=64, dropout=0.1)

MODELS: dict[str, ModelConfig] = {
    "arbex": ModelConfig("arbex"),
    "poster-v2": ModelConfig("poster-v2", head=None),
    "arbex-nano": ModelConfig("arbex-nano", input_size=112, encoder=NANO_ENCODER, head=NANO_HEAD),
    "poster-v2-nano": ModelConfig("poster-v2-nano", input_size=112, encoder=NANO_ENCODER, head=None),
}

DESCRIPTIONS: dict[str, str] = {
    "arbex": "ARBEx/GReFEL: window cross-attention pyramid with the reliability balancing head",
    "poster-v2": "POSTER++: the same encoder with one linear layer",
    "arbex-nano": "the same modules at small widths, for CPUs and tests",
    "poster-v2-nano": "the small encoder with one linear layer",
}


def list_models() -> list[str]:
    """The registered names."""
    return list(MODELS)


def model_config(name: str, **overrides: Any) -> ModelConfig:
    """The configuration of a registered model.

    Args:
        name: one of `list_models()`.
        overrides: fields of ModelConfig, and fields of its `encoder` and `head` as nested dictionaries,
            e.g. `num_classes=8, head={"anchors_per_class": 4}`.

    Raises:
        EdgefelError: the name is unknown (lists the known ones), or an override is not a field.
    """
    if name not in MODELS:
        raise EdgefelError(f"unknown model '{name}'; known: {', '.join(MODELS)}")
    config = MODELS[name]
    for part in ("encoder", "head"):
        changes = overrides.get(part)
        if isinstance(changes, dict):
            current = getattr(config, part)
            if current is None:
                raise EdgefelError(f"model '{name}' has no {part} to configure; got {sorted(changes)}")
            overrides[part] = _replace(current, changes, f"{name} {part}")
    replaced = _replace(config, overrides, name)
    assert isinstance(replaced, ModelConfig)
    return replaced


def build_model(name: str, *, attention: Choice = "auto", **overrides: Any) -> FacialExpressionModel:
    """A freshly initialized model (training mode, weights from torch's global generator).

    attention: "auto", "reference" or "triton", as in FacialExpressionModel; the rest as in `model_config`.
    """
    return FacialExpressionModel(model_config(name, **overrides), attention)


def _replace(config: Any, changes: dict[str, Any], where: str) -> Any:
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise EdgefelError(f"{where}: unknown settings {unknown}; known: {sorted(known)}")
    return dataclasses.replace(config, **changes)
