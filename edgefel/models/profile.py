"""Parameters and multiply-accumulates of a model, counted without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefel.models.config import ModelConfig


@dataclass(frozen=True)
class ModelProfile:
    """Trainable parameters, and multiply-accumulates of convolutions and matrix products at batch 1."""

    parameters: int
    macs: int


def profile(config: ModelConfig) -> ModelProfile:
    """Counts on the meta device, without data."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from edgefel.models.network import FacialExpressionModel

    with torch.device("meta"):
        model = FacialExpressionModel(config).eval()
        image = torch.empty(1, 3, config.input_size, config.input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(p.numel() for p in model.parameters())
    # the counter reports two operations for each multiply-accumulate
    return ModelProfile(parameters=parameters, macs=counter.get_total_flops() // 2)


def known_profile(name: str) -> ModelProfile:
    """`profile` of a registered model with its defaults, from a table: needs no PyTorch.

    name: of `registry.list_models`, with any additions.
    """
    base, *additions = name.replace("arbex", "poster-v2").split("+")
    additions += ["reliability"] if name.startswith("arbex") else []
    parts = [_KNOWN[base], *(_ADDED[addition][base] for addition in {*additions})]
    return ModelProfile(sum(part.parameters for part in parts), sum(part.macs for part in parts))


# with 7 classes; tests/models/test_profile.py counts them again. arbex is poster-v2 with the reliability head
_KNOWN = {
    "poster-v2": ModelProfile(43_753_941, 8_592_404_224),
    "apvit": ModelProfile(65_209_543, 12_646_885_120),
    "poster-v2-small": ModelProfile(2_813_439, 523_381_984),
    "poster-v2-nano": ModelProfile(376_059, 76_022_080),
    "apvit-nano": ModelProfile(363_951, 94_733_728),
}
_HEAD, _SMALL_HEAD, _NANO_HEAD = (
    ModelProfile(182_087, 172_352),
    ModelProfile(112_391, 102_656),
    ModelProfile(36_135, 31_072),
)
# a resizer takes 384 pixels in front of 224, and 192 in front of 112
_RESIZER, _SMALL_RESIZER = ModelProfile(12_083, 849_395_712), ModelProfile(12_083, 212_348_928)
_ADDED = {
    "reliability": dict(zip(_KNOWN, (_HEAD, _HEAD, _SMALL_HEAD, _NANO_HEAD, _NANO_HEAD), strict=True)),
    "resizer": dict(zip(_KNOWN, (_RESIZER, *[_SMALL_RESIZER] * 4), strict=True)),
}
