"""Settings of a training run: frozen, checked at construction, from YAML and flags.

Every setting is one dataclass field; its metadata carries the help text and the limits, and both the
command line and `config.yaml` are made from it. Defaults are the recipe of ARBEx section 4.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefel.data.votes import VOTES_FILES, layout_with_votes
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_yaml
from edgefel.files.remote import is_address
from edgefel.training.settings import Limits, check_fields, setting

FROM_UNIFORM, FROM_VOTES = "uniform", "votes"  # priors that are no file

# what `qat` changes about the defaults: small steps, few of them, on images as the device sees them
QAT_RECIPE: Mapping[str, Any] = {
    "lr": 2e-5,
    "lr_schedule": "cosine",
    "max_steps": 40,
    "batch_size": 32,
    "eval_every": 1000,
    "log_every": 10,
    "augment.rotation": 0.0,
    "augment.brightness": 0.0,
    "augment.contrast": 0.0,
    "augment.saturation": 0.0,
    "augment.hue": 0.0,
    "augment.noise": 0.0,
    "augment.erase_probability": 0.0,
}
# the network is there already, and it learns from itself instead of from labels
_NOT_WITH_QAT = (
    *("model_settings", "init_from", "teacher", "freeze_backbones", "label_noise", "ema", "resizer_lr"),
    *("augment.mixup", "augment.cutmix", "compute.precision"),
)


@dataclass(frozen=True)
class LossConfig:
    """The losses (ARBEx section 3.4; PDLS and F-PDLS, arXiv 2204.02181)."""

    criterion: str = setting(
        "cross-entropy",
        "The classification loss. pdls mixes labels with --prior, f-pdls also weighs each class by how wrong it is.",
        choices=("cross-entropy", "pdls", "f-pdls"),
    )
    smoothing: float = setting(0.11, "Label smoothing (cross-entropy only).", minimum=0, maximum=0.999)
    prior: str = setting(
        FROM_UNIFORM,
        "Label distribution of each class, for pdls and f-pdls: uniform, votes (of the training set), a CSV file of "
        "distributions or counts, or the evaluation.json of edgefel evaluate.",
    )
    alpha: float = setting(0.8, "Share of the label itself in the targets of pdls.", minimum=0, maximum=1)
    gamma: float = setting(2.0, "Power of 1 - p, by which f-pdls weights classes.", minimum=0)
    lambda_cls: float = setting(1.0, "Weight of the classification loss.", minimum=0)
    lambda_anchor: float = setting(1.0, "Weight of the loss that pushes anchors apart.", minimum=0)
    lambda_center: float = setting(1.0, "Weight of the loss that pulls to the own anchor.", minimum=0)
    lambda_auxiliary: float = setting(
        0.0,
        "Weight of an auxiliary classifier on the streams' tokens (deep supervision), for training from scratch.",
        minimum=0,
    )
    auxiliary_steps: int = setting(
        0, "Steps at the start in which only the auxiliary classifier and the streams learn.", minimum=0
    )
    anchor_loss: str = setting(
        "unbounded", "The paper's anchor loss, or one that stops at a margin.", choices=("unbounded", "hinge")
    )
    anchor_margin: float = setting(
        4.0, "Squared distance per dimension at which the hinge stops.", minimum=0, above=True
    )
    correction_ramp: str = setting(
        "linear", "Fade in anchor terms and correction over the training, or not.", choices=("linear", "none")
    )
    soft_labels: bool = setting(False, "Train on the soft_ columns of labels.csv instead of the labels.")
    teacher_weight: float = setting(
        0.5, "Share of the teacher's probabilities in the targets, with --teacher.", minimum=0, maximum=1
    )
    teacher_temperature: float = setting(
        1.0, "T: the teacher's probabilities to the power 1/T; above 1, more even.", minimum=0, above=True
    )

    def __post_init__(self) -> None:
        check_fields(self, "loss")

    @property
    def prior_is_file(self) -> bool:
        """Whether the prior is read from a file."""
        return self.prior not in (FROM_UNIFORM, FROM_VOTES)


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of a training batch, besides the random crop. Zero turns a part off."""

    flip: float = setting(0.5, "Probability of mirroring.", minimum=0, maximum=1)
    rotation: float = setting(10.0, "Largest rotation in degrees.", minimum=0, maximum=180)
    zoom: float = setting(0.0, "Largest relative change of size.", minimum=0, maximum=0.5)
    brightness: float = setting(0.2, "Largest relative change of brightness.", minimum=0, maximum=1)
    contrast: float = setting(0.2, "Largest relative change of contrast.", minimum=0, maximum=1)
    saturation: float = setting(0.2, "Largest relative change of saturation.", minimum=0, maximum=1)
    hue: float = setting(8.0, "Largest change of hue in degrees.", minimum=0, maximum=180)
    noise: float = setting(
        0.03, "Largest standard deviation of the noise (scale 0..1).", minimum=0, maximum=1
    )
    erase_probability: float = setting(1.0, "Probability of erasing a rectangle.", minimum=0, maximum=1)
    erase_area: float = setting(0.05, "Erased share of the image.", minimum=0, maximum=0.3)
    mixup: float = setting(
        0.0, "Blend pairs of images, and their labels, by Beta(a, a), e.g. 0.2.", minimum=0, maximum=10
    )
    cutmix: float = setting(
        0.0,
        "Paste a rectangle of one image into another, of a share of the area by Beta(a, a) of this a, such as 1; with "
        "mixup too, each batch takes one of the two.",
        minimum=0,
        maximum=10,
    )

    def __post_init__(self) -> None:
        check_fields(self, "augment")


@dataclass(frozen=True)
class ComputeConfig:
    """Devices and processes (in Lightning Fabric's terms), and how images are read."""

    accelerator: str = setting("auto", "auto, cpu, cuda or mps.", resumable=True)
    devices: str = setting("auto", "How many devices, e.g. 2.", resumable=True)
    nodes: int = setting(1, "How many machines.", minimum=1, resumable=True)
    precision: str = setting("32-true", "32-true, bf16-mixed, 16-mixed, 64-true, ...")
    attention: str = setting(
        "auto",
        "Window cross-attention by PyTorch (reference) or the fused kernels (triton, needs CUDA); auto uses the "
        "kernels where they run.",
        choices=("auto", "reference", "triton"),
        resumable=True,
    )
    strategy: str = setting("auto", "auto or ddp.", choices=("auto", "ddp"), resumable=True)
    workers: int = setting(2, "Threads that read images; 0 reads in the main one.", minimum=0, resumable=True)
    cache_mb: int = setting(
        4096, "Keep the resized images in memory if they fit in this.", minimum=0, resumable=True
    )

    def __post_init__(self) -> None:
        check_fields(self, "compute")


@dataclass(frozen=True)
class TrainConfig:
    """Everything about one run."""

    model: str = setting("arbex", "Model name; edgefel models lists them.")
    data: str = setting("", "Data set with a split train, in any layout of docs/data.md.", resumable=True)
    layout: str | None = setting(
        None, "Layout of the data, such as raf-db; recognized if left out (docs/data.md)."
    )
    votes: str | None = setting(
        None,
        "For FER+: the file with the labels; by default the published one, fer2013new.csv.",
        choices=VOTES_FILES,
    )
    without_copies: bool = setting(
        False,
        "Leave out of training images with a copy in val or test: an equal file, or one that looks alike.",
    )
    num_classes: int | None = setting(
        None, "Expected number of classes (7 or 8); the data decides if left out.", minimum=2
    )
    model_settings: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"limits": Limits("Changes to the model, as in edgefel.models.model_config.")},
    )
    init_from: tuple[str, ...] = setting(
        (),
        "Start from this checkpoint or imported backbone, its classes matched by name; repeat for several.",
    )
    teacher: str | None = setting(
        None, "Also learn from the probabilities of this checkpoint or run (distillation)."
    )
    freeze_backbones: bool = setting(False, "Keep the image and landmark streams as they are.")
    qat: str | None = setting(
        None,
        "Train this checkpoint or run for INT8 (quantization-aware training): it learns to say in INT8 what it says "
        "in FP32. Other settings then have other defaults, which docs/qat.md lists.",
    )
    qat_for: str = setting(
        "int8",
        "The file to train for: its quantizers are imitated.",
        choices=("int8", "int8+fp16"),
    )
    qat_calibration: str | None = setting(
        None,
        "How the ranges of activations are found at first; by default as edgefel export finds them.",
        choices=("sqnr", "mse", "minmax", "percentile", "entropy"),
    )
    qat_learn_ranges: bool = setting(False, "The ranges of activations learn too (LSQ).")
    qat_range_lr: float = setting(
        1e-3, "Learning rate of the ranges' logarithms, with --qat-learn-ranges.", minimum=0, above=True
    )
    epochs: int = setting(1000, "Balanced epochs.", minimum=1, resumable=True)
    batch_size: int = setting(64, "Images per step, over all processes.", minimum=2)
    optimizer: str = setting("adamw", "adamw, or sgd with --momentum (APViT).", choices=("adamw", "sgd"))
    lr: float = setting(3e-4, "Learning rate.", minimum=0, above=True)
    lr_schedule: str = setting(
        "exponential",
        "Factor --lr-decay after each epoch, or a half cosine over the whole training.",
        choices=("exponential", "cosine"),
    )
    lr_decay: float = setting(
        0.995, "Factor on the learning rate after each epoch.", minimum=0, maximum=1, above=True
    )
    momentum: float = setting(0.9, "Momentum of sgd.", minimum=0, maximum=1)
    weight_decay: float = setting(
        0.0,
        "Weight decay of matrices and kernels; norms, biases, scales, positions and anchors have none.",
        minimum=0,
    )
    ema: float = setting(
        0.0,
        "Decay per step of the moving average of the weights that is then validated and saved, e.g. 0.999; 0: none.",
        minimum=0,
        maximum=0.99999,
    )
    resizer_lr: float = setting(
        1.0, "Factor on the learning rate of a resizer in front of the model.", minimum=0, above=True
    )
    warmup_steps: int = setting(0, "Steps over which the learning rate rises to --lr.", minimum=0)
    clip_norm: float = setting(0.0, "Largest norm of the gradient; 0 does not limit it.", minimum=0)
    per_class: int = setting(500, "Images of each class in a balanced epoch.", minimum=1)
    per_group: int = setting(512, "Images of each subject or video in an epoch's pool.", minimum=1)
    balanced: bool = setting(
        True,
        "Balanced epochs; --no-balanced draws as many images uniformly, whatever their class and group.",
    )
    label_noise: float = setting(
        0.0,
        "Share of the training labels that are replaced by another class, for experiments.",
        minimum=0,
        maximum=1,
    )
    max_steps: int | None = setting(None, "Stop after this many steps.", minimum=1, resumable=True)
    max_minutes: float | None = setting(
        None, "Stop after this many minutes.", minimum=0, above=True, resumable=True
    )
    eval_every: int = setting(1, "Validate every this many epochs.", minimum=1, resumable=True)
    best_by: str = setting(
        "macro_f1", "What the best checkpoint is best at.", choices=("macro_f1", "accuracy")
    )
    patience: int = setting(
        0,
        "Early stopping: end after this many validations in a row without a better --best-by; 0 trains to the end.",
        minimum=0,
        resumable=True,
    )
    checkpoint_every: int = setting(
        500, "Save every this many steps, besides validations.", minimum=1, resumable=True
    )
    keep: int = setting(1, "Recent checkpoints to keep, besides the best.", minimum=1, resumable=True)
    log_every: int = setting(20, "Steps per line of metrics.csv.", minimum=1)
    seed: int = setting(0, "Random seed.", minimum=0)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        check_fields(self, "")
        if not isinstance(self.model_settings, Mapping):
            raise EdgefelError(f"model_settings: expected names and values, got {self.model_settings!r}")
        object.__setattr__(self, "model_settings", dict(self.model_settings))
        if self.ema and self.compute.precision.endswith("16-true"):
            raise EdgefelError(
                f"ema is {self.ema} with precision {self.compute.precision}, which rounds away the small steps of an "
                "average; use --precision bf16-mixed"
            )
        if self.qat:
            self._check_qat()

    def _check_qat(self) -> None:
        default = TrainConfig()
        paths = [path for path, _, _ in settings() if path in _NOT_WITH_QAT or path.startswith("loss.")]
        changed = [path for path in paths if _value(self, path) != _value(default, path)]
        if changed:
            raise EdgefelError(
                f"qat: {', '.join(changed)} cannot be changed for quantization-aware training; leave out what sets it"
            )

    @property
    def full_layout(self) -> str | None:
        """The layout with the file of votes, for `open_dataset`. Raises EdgefelError if they do not fit."""
        return layout_with_votes(self.layout, self.votes)

    def absolute(self) -> TrainConfig:
        """A copy with absolute paths, so that a run can be resumed from any folder.

        Raises EdgefelError for data at an address.
        """
        if is_address(self.data):
            raise EdgefelError(
                f"data: {self.data} is an address, and training reads a disk; prepare the faces onto one with: "
                f"edgefel data prepare {self.data} -o faces"
            )
        # not resolve(), which would follow links that may be meant to change
        data = os.path.abspath(self.data) if self.data else ""  # noqa: PTH100
        starts = tuple(os.path.abspath(path) for path in self.init_from)  # noqa: PTH100
        loss = self.loss
        if loss.prior_is_file:
            loss = dataclasses.replace(loss, prior=os.path.abspath(loss.prior))  # noqa: PTH100
        teacher = self.teacher and os.path.abspath(self.teacher)  # noqa: PTH100
        qat = self.qat and os.path.abspath(self.qat)  # noqa: PTH100
        return dataclasses.replace(self, data=data, init_from=starts, teacher=teacher, qat=qat, loss=loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML; `from_dict` reads it back."""
        return dataclasses.asdict(self) | {"init_from": list(self.init_from)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config") -> TrainConfig:
        """Reads nested plain data; raises EdgefelError for bad values and unknown keys (lists the known)."""
        config = _read(cls, values, source, "")
        assert isinstance(config, cls)
        return config

    def replaced(self, changes: Mapping[str, Any]) -> TrainConfig:
        """A copy with `changes`, whose keys are dotted paths such as "loss.smoothing"."""
        values = self.to_dict()
        for path, value in changes.items():
            *sections, name = path.split(".")
            target = values
            for section in sections:
                target = target[section]
            target[name] = value
        return self.from_dict(values)


SECTIONS: dict[str, type] = {"loss": LossConfig, "augment": AugmentConfig, "compute": ComputeConfig}


def settings(
    cls: type = TrainConfig, prefix: str = ""
) -> Iterator[tuple[str, dataclasses.Field[Any], Limits]]:
    """Every setting as (dotted path, field, limits), sections last."""
    for item in dataclasses.fields(cls):
        if item.name in SECTIONS and cls is TrainConfig:
            yield from settings(SECTIONS[item.name], f"{item.name}.")
        else:
            yield prefix + item.name, item, item.metadata["limits"]


def _value(config: TrainConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def load_config(path: str | os.PathLike[str]) -> TrainConfig:
    """Reads a YAML file; raises EdgefelError naming the file for anything that is wrong with it."""
    return TrainConfig.from_dict(read_yaml(path) or {}, str(path))


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML text that `load_config` reads."""
    import yaml

    return str(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))


def _read(cls: Any, values: Any, source: str, prefix: str) -> Any:
    if cls is LossConfig and isinstance(values, str):
        values = {"criterion": values}  # loss: f-pdls
    if not isinstance(values, Mapping):
        raise EdgefelError(f"{source}: {prefix.rstrip('.') or 'the file'} must hold names and values")
    values = dict(values)
    if cls is LossConfig and "correction_ramp" not in values and "trust" in values:
        values["correction_ramp"] = values.pop("trust")  # its name in earlier versions
    if cls is TrainConfig and values.get("optimizer") == "adam":  # of earlier versions
        if values.get("weight_decay"):
            raise EdgefelError(
                f"{source}: optimizer is 'adam' with weight_decay, which decayed through the gradient in earlier "
                "versions; use adamw, or the version that began the run"
            )
        values["optimizer"] = "adamw"  # the same without weight decay
    known = [item.name for item in dataclasses.fields(cls)]
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        listed = ", ".join(prefix + name for name in unknown)
        raise EdgefelError(f"{source}: unknown setting {listed}; known here: {', '.join(known)}")
    if cls is TrainConfig:
        for name in SECTIONS.keys() & values.keys():
            values[name] = _read(SECTIONS[name], values[name], source, f"{name}.")
    try:
        return cls(**values)
    except EdgefelError as error:
        raise EdgefelError(f"{source}: {error}") from None
