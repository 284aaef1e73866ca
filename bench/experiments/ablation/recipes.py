"""Settings and faces that all variants of an experiment share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.bench.experiments.ablation.experiment import merged


@dataclass(frozen=True)
class Recipe:
    """settings: changes to the defaults of `TrainConfig`, nested. faces: options of `FaceOptions`.

    pretraining: settings and faces of a first run from random weights, whose two streams, frozen, all other runs start
    from. None: runs start from random weights, or from `init_from`.
    """

    settings: Mapping[str, Any]
    faces: Mapping[str, Any]
    pretraining: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None


# Random weights to something within minutes: see docs/training.md, "From scratch". No validation before the end: the
# last checkpoint is judged, which no choice on the validation split flatters.
_SCRATCH: Mapping[str, Any] = {
    "model": "arbex-nano",
    "epochs": 7,
    "per_class": 180,
    "batch_size": 32,
    "lr": 2e-3,
    "lr_decay": 0.8,
    "warmup_steps": 20,
    "clip_norm": 1.0,
    "eval_every": 1000,
    "loss": {"lambda_auxiliary": 1.0, "auxiliary_steps": 90},
    "augment": {"rotation": 5.0, "noise": 0.01, "erase_probability": 0.0},
    "compute": {"workers": 0},
}
# clear expressions in moderate poses and light; 15 % of the people are for the test, about 900 images
_FACES: Mapping[str, Any] = {
    "count": 6000,
    "subjects": 300,
    "size": 128,
    "pose": 0.5,
    "nuisance": 0.5,
    "blend": 0.1,
    "intensity": (0.7, 1.0),
}
# other people, drawn with another seed; a network that has no head at all
_OTHERS: Mapping[str, Any] = {**_FACES, "count": 12000, "subjects": 600, "seed": 1_000_003}
_BEFORE: Mapping[str, Any] = merged(
    _SCRATCH,
    {"epochs": 12, "per_class": 360, "lr_decay": 0.82, "loss.auxiliary_steps": 150, "seed": 1_000_003}
    | {"model_settings.head.anchors_per_class": 0, "model_settings.head.attentive": False},
)
# what is left to learn takes less: the fusion, the ViT and the head
_NANO: Mapping[str, Any] = merged(
    _SCRATCH, {"epochs": 10, "loss.auxiliary_steps": 40, "freeze_backbones": True}
)
_FEW: Mapping[str, Any] = {"epochs": 1, "per_class": 16, "batch_size": 16, "loss.auxiliary_steps": 0}
_FEW_FACES: Mapping[str, Any] = {"count": 280, "subjects": 28, "size": 64}

RECIPES = {
    # arbex-nano with streams that were trained on other faces and stay as they are, as the papers start from pretrained
    # backbones; minutes a run on two cores
    "nano": Recipe(_NANO, _FACES, (_BEFORE, _OTHERS)),
    # arbex-nano from random weights
    "scratch": Recipe(_SCRATCH, _FACES),
    # arbex by the papers' recipe, for a GPU
    "full": Recipe({"model": "arbex", "eval_every": 10}, {"count": 60000}),
    # to see the command work: a few steps a run, and nothing learned
    "quick": Recipe(
        merged(_NANO, _FEW), {**_FACES, **_FEW_FACES}, (merged(_BEFORE, _FEW), {**_OTHERS, **_FEW_FACES})
    ),
}
