"""Registered model names, their configurations and descriptions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_fields
from edgefel.models.config import APViTConfig, EncoderConfig, ModelConfig, ReliabilityConfig, ResizerConfig

if TYPE_CHECKING:
    from edgefel.kernels.backend import Choice
    from edgefel.models.network import FacialExpressionModel

NANO_ENCODER = EncoderConfig(
    image_stem=8,
    image_widths=(8, 16, 32),
    image_units=(1, 2, 2),
    landmark_widths=(8, 16, 32),
    landmark_units=(1, 1, 1),
    # four windows on the first level: a quarter of its attention's cost, and the partition is exercised
    windows=(14, 14, 7),
    heads=(1, 1, 2),
    width=96,
    vit_heads=4,
    mlp_ratio=2.0,
    # at this size the fusion branches are most of the network and should learn from the first step
    layer_scale=0.1,
    drop_path=(0.0, 0.0, 0.0),
)

# the paper's dropout of 0.5 mostly delays so short a training of so small a network
NANO_HEAD = ReliabilityConfig(embedding_dim=64, dropout=0.1)

# Most of the cost of IR-50's first unit are its maps at 112 x 112: a narrow start leaves more for the later stages.
SMALL_ENCODER = EncoderConfig(
    image_stem=8,
    image_widths=(16, 48, 128),
    image_units=(1, 2, 4),
    landmark_widths=(16, 48, 96),
    landmark_units=(1, 1, 1),
    windows=(14, 14, 7),
    heads=(1, 3, 4),
    width=192,
    vit_heads=6,
    mlp_ratio=2.0,
    layer_scale=0.1,
    drop_path=(0.0, 0.05, 0.1),
)
SMALL_HEAD = ReliabilityConfig(dropout=0.2)

NANO_APVIT = APViTConfig(
    image_stem=8,
    image_widths=(8, 16, 32),
    image_units=(1, 2, 2),
    width=96,
    vit_heads=4,
    mlp_ratio=2.0,
    keep_rates=(1.0, 1.0, 0.9, 0.9),
)

MODELS: dict[str, ModelConfig] = {
    "arbex": ModelConfig("arbex"),
    "poster-v2": ModelConfig("poster-v2", head=None),
    "apvit": ModelConfig("apvit", input_size=112, encoder=APViTConfig(), head=None),
    "arbex-small": ModelConfig("arbex-small", input_size=112, encoder=SMALL_ENCODER, head=SMALL_HEAD),
    "poster-v2-small": ModelConfig("poster-v2-small", input_size=112, encoder=SMALL_ENCODER, head=None),
    "arbex-nano": ModelConfig("arbex-nano", input_size=112, encoder=NANO_ENCODER, head=NANO_HEAD),
    "poster-v2-nano": ModelConfig("poster-v2-nano", input_size=112, encoder=NANO_ENCODER, head=None),
    "apvit-nano": ModelConfig("apvit-nano", input_size=112, encoder=NANO_APVIT, head=None),
}

DESCRIPTIONS: dict[str, str] = {
    "arbex": "ARBEx/GReFEL: window cross-attention pyramid with the reliability balancing head",
    "poster-v2": "POSTER++: the same encoder with one linear layer",
    "apvit": "APViT: an image stream and a ViT that drops the patches and tokens which matter least",
    "arbex-small": "the same modules as arbex at a twentieth of the cost",
    "poster-v2-small": "the encoder of arbex-small with one linear layer",
    "arbex-nano": "the same modules as arbex at small widths, for CPUs and tests",
    "poster-v2-nano": "the small encoder with one linear layer",
    "apvit-nano": "the same modules as apvit at small widths",
}

ADDITIONS: dict[str, str] = {
    "resizer": "a learned resize in front (Neural Resizer), trained with the model and a part of its graph",
    "reliability": "the reliability balancing head instead of one linear layer",
}

# the published factor, and the input side that it resizes to the encoder's 224 or 112 pixels
_RESIZER_SCALE = 0.584
_RESIZER_INPUTS = {224: 384, 112: 192}


def list_models() -> list[str]:
    """The registered names; each takes suffixes of `ADDITIONS`, e.g. apvit+resizer+reliability."""
    return list(MODELS)


def describe(name: str) -> str:
    """One line on the model of a name. Raises EdgefelError for an unknown name."""
    base, *additions = _named(name).name.split("+")
    return "; ".join([DESCRIPTIONS[base], *(ADDITIONS[addition] for addition in additions)])


def model_config(name: str, **overrides: Any) -> ModelConfig:
    """The configuration of a registered model.

    name: one of `list_models()`, with any of `ADDITIONS` behind it, each after a plus sign. overrides: fields of
    ModelConfig, and fields of its `encoder`, `head` and `resizer` as nested dictionaries, e.g.
    `num_classes=8, head={"anchors_per_class": 4}`. With a resizer, `input_size` is free (48 to 384 pixels): the factor
    of the resize follows from it unless `resizer.scale` is given.

    Raises EdgefelError for an unknown name (lists the known ones), or an override that is not a field.
    """
    config = _named(name)
    scale_is_given = isinstance(overrides.get("resizer"), dict) and "scale" in overrides["resizer"]
    for part in ("encoder", "head", "resizer"):
        changes = overrides.get(part)
        if isinstance(changes, dict):
            current = getattr(config, part)
            if current is None:
                raise EdgefelError(f"model '{name}' has no {part} to configure; got {sorted(changes)}")
            overrides[part] = _replace(current, changes, f"{name} {part}")
    resizer = overrides.get("resizer", config.resizer)
    if resizer is not None and {"input_size", "resizer"} & set(overrides) and not scale_is_given:
        # the published factor belongs to the published sides
        overrides["resizer"] = dataclasses.replace(resizer, scale=None)
    replaced: ModelConfig = _replace(config, overrides, name)
    return replaced


def _named(name: str) -> ModelConfig:
    base, *additions = name.split("+")
    unknown = [addition for addition in additions if addition not in ADDITIONS]
    if base not in MODELS or unknown:
        raise EdgefelError(
            f"unknown model '{name}'; known: {', '.join(MODELS)}, and each of them with "
            + " or ".join(f"+{addition}" for addition in ADDITIONS)
        )
    if len(set(additions)) != len(additions):
        raise EdgefelError(f"model '{name}': name each addition once")
    config = dataclasses.replace(MODELS[base], name=name)
    if "reliability" in additions and config.head is None:
        sizes = {"nano": NANO_HEAD, "small": SMALL_HEAD}
        config = dataclasses.replace(config, head=sizes.get(base.rpartition("-")[2], ReliabilityConfig()))
    if "resizer" in additions:
        size = config.input_size
        resizer = ResizerConfig(output_size=size, scale=_RESIZER_SCALE)
        config = dataclasses.replace(config, input_size=_RESIZER_INPUTS[size], resizer=resizer)
    return config


def build_model(name: str, *, attention: Choice = "auto", **overrides: Any) -> FacialExpressionModel:
    """A freshly initialized model (training mode, weights from torch's global generator).

    attention: "auto", "reference" or "triton", as in FacialExpressionModel; the rest as in `model_config`.
    """
    from edgefel.models.network import FacialExpressionModel

    return FacialExpressionModel(model_config(name, **overrides), attention)


def _replace(config: Any, changes: dict[str, Any], where: str) -> Any:
    # JSON and YAML give lists for tuples; a part of the model is a configuration already, or names and values
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()}
    check_fields(plain, type(config), where, partial=True)
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return dataclasses.replace(config, **tuples)
