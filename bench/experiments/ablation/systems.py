"""Experiments on the claims of APViT (arXiv 2212.05463) and Neural Resizer with F-PDLS (arXiv 2204.02181).

The papers measured on other data and in other tables, so only the order of their results is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgefel.bench.experiments.ablation.experiment import Claim, Experiment, Variant
from edgefel.models.config import RESIZER_SIDES, APViTConfig, ModelConfig

_SIDES = (32, 48, 64, 96)
# 8 channels suit the small streams as 16 suit the published ones. At the recipe's own rate, meant for few steps,
# the last convolution of 7 x 7 x 8 inputs would outgrow the image before anything else has learned.
_RESIZER: dict[str, Any] = {"model_settings.resizer.channels": 8, "resizer_lr": 0.1}


def _faces_of(side: int, addition: str) -> Variant:
    """The resizer takes faces as they are, down to its least side; without it, they are enlarged to the input size."""
    name = f"{side} px" + (f", {addition}" if addition else "")
    changes = {"model_settings.input_size": max(side, RESIZER_SIDES[0]), **_RESIZER} if addition else {}
    series = "with resizer" if addition else "without"
    return Variant(name, changes, series=series, x=side, addition=addition, faces={"size": side})


RESOLUTION = Experiment(
    "resolution",
    "Faces of few pixels",
    "Neural Resizer (arXiv 2204.02181)",
    tuple(_faces_of(side, addition) for side in _SIDES for addition in ("", "resizer")),
    (
        *(Claim(f"{side} px, resizer", f"{side} px") for side in _SIDES),
        Claim("96 px", "32 px"),
        Claim("96 px, resizer", "32 px, resizer"),
    ),
    note="The same people and expressions, rendered with as many pixels. Everything is trained, the resizer too; "
    "without it, faces are enlarged to 112 pixels. The resizer has 8 channels and a tenth of the learning rate.",
    axis="side of a face in pixels",
    settings={"freeze_backbones": False},
    ordering="That the resizer helps",
)


def last_half(rate: float) -> Callable[[ModelConfig], list[float]]:
    """Rates as published: all tokens in the first half of the blocks, `rate` in each of the others."""

    def rates(config: ModelConfig) -> list[float]:
        assert isinstance(config.encoder, APViTConfig)
        depth = len(config.encoder.keep_rates)
        return [1.0] * (depth // 2) + [rate] * (depth - depth // 2)

    return rates


def _keeping(name: str, patches: int, rate: float) -> Variant:
    """160 patches and a rate of 0.9 are the model's defaults."""
    changes: dict[str, Any] = {} if patches == 160 else {"model_settings.encoder.keep_patches": patches}
    if rate != 0.9:
        changes["model_settings.encoder.keep_rates"] = last_half(rate)
    return Variant(name, changes)


KEEP_RATES = Experiment(
    "keep-rates",
    "Patches and tokens that APViT keeps",
    "APViT (arXiv 2212.05463)",
    (
        _keeping("all", 196, 1.0),
        _keeping("160 patches", 160, 1.0),
        _keeping("tokens x 0.9", 196, 0.9),
        _keeping("160 patches, tokens x 0.9", 160, 0.9),
        _keeping("98 patches, tokens x 0.9", 98, 0.9),
        _keeping("49 patches, tokens x 0.7", 49, 0.7),
        _keeping("16 patches, tokens x 0.5", 16, 0.5),
    ),
    (
        Claim("160 patches", "all"),
        Claim("tokens x 0.9", "all"),
        Claim("160 patches, tokens x 0.9", "all"),
        Claim("160 patches, tokens x 0.9", "16 patches, tokens x 0.5"),
    ),
    note="Of 196 patches; tokens are dropped in each block of the second half. Published: 160 patches, tokens x 0.9.",
    family="apvit",
    ordering="That dropping what matters least helps",
)

_LOSSES: dict[str, dict[str, Any]] = {
    "cross-entropy": {"loss.smoothing": 0.0},
    "label smoothing": {},  # the recipe's own
    "F-PDLS": {"loss.criterion": "f-pdls"},
}
_WRONG = (0, 10, 20, 30)


def _trained_by(loss: str, percent: int) -> Variant:
    changes = _LOSSES[loss] | ({"label_noise": percent / 100} if percent else {})
    return Variant(f"{percent} %, {loss}", changes, series=loss, x=percent)


NOISE_LOSSES = Experiment(
    "noise-losses",
    "Losses against wrong labels",
    "F-PDLS (arXiv 2204.02181)",
    tuple(_trained_by(loss, percent) for percent in _WRONG for loss in _LOSSES),
    tuple(
        Claim(f"{percent} %, {better}", f"{percent} %, cross-entropy")
        for percent in _WRONG
        for better in ("F-PDLS", "label smoothing")
    ),
    note="Wrong labels are any other class alike, which a uniform prior describes; α = 0.8 and γ = 2 as published. "
    "Label smoothing of 11 %, as in ARBEx.",
    axis="wrong training labels in %",
    ordering="That both losses beat cross-entropy",
)
