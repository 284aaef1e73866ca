"""Recipes, the runs that an experiment needs by one of them, and where each lies.

Equal settings are one run, whatever table asks for it.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgefel.bench.experiments.ablation.experiment import Experiment, Variant, merged
from edgefel.data.synthetic import FaceOptions
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_yaml
from edgefel.files.write import sha256
from edgefel.models.apvit import APViTEncoder
from edgefel.models.checkpoint import WEIGHTS_FILE, resolve_checkpoint
from edgefel.models.config import APViTConfig
from edgefel.models.encoder import Encoder
from edgefel.models.registry import model_config
from edgefel.training.config import TrainConfig, settings

PRETRAINING = "pretraining"
# settings that do not change what is learned, and those that are a run's identity otherwise
_PLACE = ("compute.accelerator", "compute.devices", "compute.workers", "compute.cache_mb", "data", "seed")


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


@dataclass(frozen=True)
class Study:
    """folder: of this and other experiments. data, layout: a labelled set with the splits train and test; None renders
    the recipe's faces. changes: to the recipe, by dotted path. only: names of variants, all if empty. streams: a
    checkpoint or run whose streams all runs start from, instead of the recipe's.

    Raises EdgefelError for an unknown recipe, no seeds, seeds below 0 or given twice, and unknown variants.
    """

    experiment: Experiment
    folder: Path
    recipe: str = "nano"
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Path | None = None
    layout: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    streams: Path | None = None

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise EdgefelError(f"recipe {self.recipe!r}: choose one of {', '.join(RECIPES)}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) != len(self.seeds):
            raise EdgefelError(f"seeds {list(self.seeds)}: give different numbers of at least 0")
        for name in self.only:
            self.experiment.variant(name)
        if self.data is not None and any(variant.faces for variant in self.experiment.variants):
            raise EdgefelError(
                f"{self.experiment.name} varies the faces themselves; leave out the data, and it renders them"
            )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Those asked for, in the order of the table."""
        return tuple(one for one in self.experiment.variants if not self.only or one.name in self.only)

    @property
    def model(self) -> str:
        """Its registered name, without the additions of single variants."""
        own, family = RECIPES[self.recipe].settings["model"], self.experiment.family
        if family:
            own = f"{family}-nano" if own.endswith("-nano") else family
        return str(self.changes.get("model", own))

    @property
    def encoder_changes(self) -> dict[str, Any]:
        """The changes that the streams share with all runs, by dotted path."""
        return {path: new for path, new in self.changes.items() if path.startswith("model_settings.encoder.")}

    def faces_of(self, variant: Variant) -> FaceOptions:
        """The faces that are rendered for a variant where no data are given."""
        return FaceOptions(**{**RECIPES[self.recipe].faces, **self.experiment.faces, **variant.faces})

    @property
    def faces(self) -> tuple[FaceOptions, ...]:
        """All faces rendered for its variants, each once; empty where data are given."""
        return () if self.data else tuple(dict.fromkeys(map(self.faces_of, self.variants)))

    def data_folder(self, variant: Variant) -> Path:
        """The given data set, or where the variant's faces are rendered to."""
        return self.data or self.faces_folder(self.faces_of(variant))

    def faces_folder(self, faces: FaceOptions) -> Path:
        """Where faces are rendered to."""
        return self.folder / f"faces-{_digest(vars(faces))}"

    @property
    def others(self) -> FaceOptions | None:
        """The faces of the pretraining; None where there is none."""
        before = RECIPES[self.recipe].pretraining
        return FaceOptions(**before[1]) if before and self.streams is None else None

    @cached_property
    def streams_folder(self) -> Path | None:
        """Where the streams that all runs start from are, or will be; None where runs start from random weights.

        Raises EdgefelError for streams that are not a checkpoint.
        """
        if self.streams is not None:
            digest = sha256(resolve_checkpoint(self.streams) / WEIGHTS_FILE)[:12]
            return self.folder / "runs" / f"streams-{digest}"
        before = pretraining(self)
        return before.folder if before else None


@dataclass(frozen=True)
class StudyRun:
    """One training of one variant. config: complete, with the absolute path of the data."""

    variant: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def result(self) -> Path:
        """The file that exists once the run has been judged."""
        return self.folder / "result.json"


def plan(study: Study) -> tuple[StudyRun, ...]:
    """All runs, seed by seed, so that an interrupted study has whole tables of the first seeds.

    Raises EdgefelError for settings that do not exist or are not valid.
    """
    return tuple(_run(study, variant, seed) for seed in study.seeds for variant in study.variants)


def pretraining(study: Study) -> StudyRun | None:
    """The run whose streams all others start from; None where there is none. It takes the changes to the model, but
    those to the head."""
    before, faces = RECIPES[study.recipe].pretraining, study.others
    if before is None or faces is None:
        return None
    wanted = merged(before[0], {**study.encoder_changes, "data": _absolute(study.faces_folder(faces))})
    if "model" in study.changes:
        wanted["model"] = study.changes["model"]
    if model_config(wanted["model"]).head is None:
        wanted["model_settings"].pop("head")
    config = TrainConfig.from_dict(wanted, PRETRAINING)
    digest = _digest({"settings": _differences(config), "data": vars(faces)})
    return StudyRun(PRETRAINING, config.seed, config, study.folder / "runs" / f"streams-{digest}")


def _run(study: Study, variant: Variant, seed: int) -> StudyRun:
    recipe = merged(merged(RECIPES[study.recipe].settings, study.experiment.settings), study.changes)
    model = "+".join(filter(None, (study.model, variant.addition)))
    known = model_config(model)
    changes = {path: value(known) if callable(value) else value for path, value in variant.changes.items()}
    changes |= {"model": model, "seed": seed, "data": _absolute(study.data_folder(variant))}
    if study.layout is not None:
        changes["layout"] = study.layout
    if (streams := study.streams_folder) is not None:
        changes["init_from"] = [_absolute(streams / name) for name in backbones(model)]
    config = TrainConfig.from_dict(merged(recipe, changes), variant.name)
    # the run's folder is named by what is learned from what; a data set of the user's counts by its path
    faces = _absolute(study.data) if study.data else vars(study.faces_of(variant))
    identity: dict[str, Any] = {"settings": _differences(config), "data": faces}
    if streams is not None:
        identity["settings"].pop("init_from")
        identity["streams"] = streams.name
    return StudyRun(variant.name, seed, config, study.folder / "runs" / f"{_digest(identity)}-{seed}")


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  links stay


def backbones(model: str) -> tuple[str, ...]:
    """The names of a model's streams."""
    encoder = APViTEncoder if isinstance(model_config(model).encoder, APViTConfig) else Encoder
    return encoder.backbones


def _differences(config: TrainConfig) -> dict[str, Any]:
    """The settings that are not the defaults, but those of _PLACE, so that a setting added later makes no run new."""
    values = {path: operator.attrgetter(path) for path, _, _ in settings() if path not in _PLACE}
    usual = TrainConfig()
    return {path: get(config) for path, get in values.items() if get(config) != get(usual)}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def parse_changes(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE settings of the recipe, such as "epochs=3" or "model_settings.head.delta=2", by dotted path.

    Raises EdgefelError for anything else, and for settings that a training does not have.
    """
    known = {path for path, _, _ in settings()}
    changes = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or (path not in known and not path.startswith("model_settings.")):
            raise EdgefelError(
                f"--set {pair!r}: write NAME=VALUE with a setting of edgefel train's config.yaml, e.g. epochs=3 or "
                "loss.correction_ramp=none"
            )
        try:
            changes[path] = parse_yaml(text, path)
        except EdgefelError:
            raise EdgefelError(f"--set {pair!r}: the value is not valid YAML") from None
    return changes
