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
    base, *additions = name.split("+")
    new = {*additions} - ({"reliability"} if base.startswith("arbex") else set())
    return _KNOWN["+".join([base, *sorted(new)])]


# with 7 classes; tests/models/test_profile.py counts them again. The arbex models have the reliability head already
_KNOWN = {
    "arbex": ModelProfile(43_936_028, 8_592_576_576),
    "arbex+resizer": ModelProfile(43_948_111, 9_441_972_288),
    "poster-v2": ModelProfile(43_753_941, 8_592_404_224),
    "poster-v2+reliability": ModelProfile(43_936_028, 8_592_576_576),
    "poster-v2+resizer": ModelProfile(43_766_024, 9_441_799_936),
    "poster-v2+reliability+resizer": ModelProfile(43_948_111, 9_441_972_288),
    "apvit": ModelProfile(65_209_543, 12_646_885_120),
    "apvit+reliability": ModelProfile(65_391_630, 12_647_057_472),
    "apvit+resizer": ModelProfile(65_221_626, 12_859_234_048),
    "apvit+reliability+resizer": ModelProfile(65_403_713, 12_859_406_400),
    "arbex-nano": ModelProfile(412_194, 76_053_152),
    "arbex-nano+resizer": ModelProfile(424_277, 288_402_080),
    "poster-v2-nano": ModelProfile(376_059, 76_022_080),
    "poster-v2-nano+reliability": ModelProfile(412_194, 76_053_152),
    "poster-v2-nano+resizer": ModelProfile(388_142, 288_371_008),
    "poster-v2-nano+reliability+resizer": ModelProfile(424_277, 288_402_080),
    "apvit-nano": ModelProfile(363_951, 94_733_728),
    "apvit-nano+reliability": ModelProfile(400_086, 94_764_800),
    "apvit-nano+resizer": ModelProfile(376_034, 307_082_656),
    "apvit-nano+reliability+resizer": ModelProfile(412_169, 307_113_728),
}
