"""Everything a run needs, checked before anything is written: devices, data, model, batches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from edgefel.data.dataset import ImageDataset
from edgefel.data.inspection.duplicates import copies_elsewhere
from edgefel.data.loading.batches import ImageSource
from edgefel.data.loading.sampling import BalancedEpoch, UniformEpoch
from edgefel.data.open import only_split, open_dataset
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.models.checkpoint import Initialization, initialize_from, read_preprocessing
from edgefel.models.network import FacialExpressionModel
from edgefel.models.registry import build_model, model_config
from edgefel.text import counted
from edgefel.training.config import ComputeConfig, TrainConfig
from edgefel.training.label_noise import with_label_noise
from edgefel.training.losses import Criterion, CriterionKind
from edgefel.training.prior import FROM_UNIFORM, FROM_VOTES, read_prior
from edgefel.training.progress import LoadingBar
from edgefel.training.randomness import Purpose, derive_seed
from edgefel.workers import end_with

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_LAUNCHER = "EDGEFEL_LAUNCHER"  # environment variable: the process that started this one for a run


@dataclass(frozen=True)
class LeftOut:
    """Images of the split train that have a copy in val or test: paths of those with an equal file there, and of
    those with an image that looks alike. of: images of the split train."""

    equal_files: tuple[str, ...]
    look_alikes: tuple[str, ...]
    of: int

    def __str__(self) -> str:
        both = len(self.equal_files) + len(self.look_alikes)
        return (
            f"left out {both} of {self.of} training images, which have a copy in val or test: "
            f"{len(self.equal_files)} an equal file, {len(self.look_alikes)} one that looks alike"
        )


@dataclass(frozen=True)
class Data:
    """The images of a run: `val` is None where the data set has no validation split.

    votes: of FER+, the file that the labels come from. left_out: None where copies were not looked for.
    """

    labels: tuple[str, ...]
    train: ImageSource
    val: ImageSource | None
    sampler: BalancedEpoch | UniformEpoch
    targets: Tensor  # int64 [N], or float32 [N, C] when training on soft labels
    criterion: Criterion
    votes: Votes | None = None
    left_out: LeftOut | None = None


def create_fabric(config: ComputeConfig) -> Fabric:
    """Lightning Fabric for these settings; raises EdgefelError where they cannot be had here."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    devices, nodes = config.devices, config.nodes
    if "LOCAL_WORLD_SIZE" in os.environ and devices == "auto":
        # started by torchrun, which has decided already; on a CPU Fabric's "auto" would mean one process
        devices = os.environ["LOCAL_WORLD_SIZE"]
        nodes = int(os.environ["WORLD_SIZE"]) // int(devices)
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,  # type: ignore[arg-type]
            strategy=config.strategy,
        )
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise EdgefelError(
            f"accelerator {config.accelerator!r}, devices {config.devices!r}, precision {config.precision!r}"
            f": not available here ({' '.join(str(error).split())}); try --accelerator cpu or other values"
        ) from None


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the one that Fabric's processes will know as rank 0.

    By what torchrun, Fabric, Slurm and MPI set, before anything is launched.
    """
    names = (
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "GROUP_RANK",
        "SLURM_PROCID",
        "OMPI_COMM_WORLD_RANK",
        "PMI_RANK",
    )
    return all(os.environ.get(name, "0") == "0" for name in names)


@contextmanager
def ending_together() -> Iterator[None]:
    """For `Fabric.launch`: processes that it starts end with the first one, without which they would wait for long."""
    parent = os.environ.pop(_LAUNCHER, None)
    if parent is not None and os.environ.get("LOCAL_RANK", "0") != "0":
        end_with(int(parent))
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        # it is for these processes alone, not for those of another launcher that this one may start
        del os.environ[_LAUNCHER]


def open_data(
    config: TrainConfig,
    preprocessing: Preprocessing,
    labels: Sequence[str] | None = None,
    *,
    quiet: bool = True,
) -> Data:
    """Opens the training and validation splits; a bar shows the search for copies unless `quiet`.

    labels: of the model whose run goes on, which has the same classes in its own order: the data takes that order.
    Raises EdgefelError if there is nothing to train on.
    """
    if not config.data:
        raise EdgefelError("no data set named; give --data DIR, or make one with: edgefel data synth -o DIR")
    everything = open_dataset(config.data, layout=config.full_layout)
    if labels is not None:
        everything = everything.reordered(labels)
    train, left_out = only_split(everything, "train"), None
    if config.without_copies:
        train, left_out = _without_copies(config, everything, train, quiet)
    train = _noisy(config, train)
    _check_classes(config, train)
    held_out = everything.in_split("val")

    def source(dataset: ImageDataset) -> ImageSource:
        return ImageSource(
            dataset, preprocessing, workers=config.compute.workers, cache_mb=config.compute.cache_mb
        )

    val = source(everything.subset(held_out)) if held_out.size else None
    return Data(
        train.labels,
        source(train),
        val,
        _sampler(config, train),
        _targets(config, train),
        _criterion(config, train),
        everything.votes,
        left_out,
    )


def _without_copies(
    config: TrainConfig, everything: ImageDataset, train: ImageDataset, quiet: bool
) -> tuple[ImageDataset, LeftOut]:
    """The training images without a copy in val or test, and the others."""
    if not (everything.in_split("val").size or everything.in_split("test").size):
        raise EdgefelError(
            f"{everything.root}: has neither val nor test, so that nothing can have a copy there; leave out "
            "--without-copies"
        )
    own = everything.in_split("train")
    shown = not quiet and os.environ.get("LOCAL_RANK", "0") == "0"
    with LoadingBar(Console(stderr=True), len(everything), shown, "looking for copies") as bar:
        found = copies_elsewhere(everything, workers=max(config.compute.workers, 1), progress=bar.advance)
    left = train.subset(np.flatnonzero(~found.any[own]))
    if not len(left):
        raise EdgefelError(
            f"{everything.root}: every training image has a copy in val or test; leave out --without-copies"
        )
    lost = np.setdiff1d(train.targets(), left.targets())
    if lost.size:
        names = ", ".join(train.labels[int(label)] for label in lost)
        warnings.warn(
            f"{everything.root}: no training image of {names} is left without copies",
            EdgefelWarning,
            stacklevel=3,
        )

    def named(chosen: Any) -> tuple[str, ...]:
        return tuple(str(train.samples[int(index)].path) for index in np.flatnonzero(chosen[own]))

    return left, LeftOut(named(found.equal), named(found.alike), len(train))


def _noisy(config: TrainConfig, train: ImageDataset) -> ImageDataset:
    if not config.label_noise:
        return train
    if config.loss.soft_labels:
        raise EdgefelError("label_noise changes labels, not soft labels; leave out one of the two")
    targets = with_label_noise(train.targets(), config.label_noise, len(train.labels), config.seed)
    return train.relabelled(targets)


def _sampler(config: TrainConfig, train: ImageDataset) -> BalancedEpoch | UniformEpoch:
    seed = derive_seed(config.seed, Purpose.ORDER)
    balanced = BalancedEpoch(
        train.targets(), train.groups(), per_class=config.per_class, per_group=config.per_group, seed=seed
    )
    return balanced if config.balanced else UniformEpoch(len(train), len(balanced), seed)


def _check_classes(config: TrainConfig, dataset: ImageDataset) -> None:
    count = len(dataset.labels)
    if config.num_classes is not None and config.num_classes != count:
        raise EdgefelError(
            f"{dataset.root}: has {counted(count, 'class', 'classes')} ({', '.join(dataset.labels)}), but "
            "num_classes is "
            f"{config.num_classes}; leave it out or use other data"
        )
    if "num_classes" in config.model_settings:
        raise EdgefelError("model_settings: set num_classes as a setting of its own, beside model_settings")


def _targets(config: TrainConfig, dataset: ImageDataset) -> Tensor:
    if not config.loss.soft_labels:
        return torch.from_numpy(dataset.targets())
    rows = dataset.soft_targets()
    if rows is None:
        raise EdgefelError(f"{dataset.root}: has no soft labels; leave out --soft-labels")
    soft = torch.from_numpy(rows)
    return soft / soft.sum(1, keepdim=True)


def _criterion(config: TrainConfig, train: ImageDataset) -> Criterion:
    loss = config.loss
    prior = None if loss.criterion == "cross-entropy" else read_prior(loss.prior, train)
    kind = cast(CriterionKind, loss.criterion)
    return Criterion(kind, smoothing=loss.smoothing, prior=prior, alpha=loss.alpha, gamma=loss.gamma)


def make_model(
    config: TrainConfig, labels: Sequence[str], tell: Callable[[Initialization], None] = lambda start: None
) -> FacialExpressionModel:
    """A model of these classes with weights that depend on the seed alone, started from `init_from` if that is set.

    tell: told what every checkpoint of `init_from` gave.
    """
    torch.manual_seed(derive_seed(config.seed, Purpose.WEIGHTS))
    model = build_model(config.model, num_classes=len(labels), **_tuples(dict(config.model_settings)))
    for path in config.init_from:
        tell(initialize_from(model, path, labels))
    return model


def _tuples(value: Any) -> Any:
    """YAML's lists as the tuples that model configurations hold."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def run_preprocessing(config: TrainConfig, resumed: Path | None = None) -> Preprocessing:
    """That of the run that goes on (`resumed`), or of the network that a run starts from, since its weights know faces
    framed like that; where there is none, or only backbones are given, the recipe's.

    Raises EdgefelError for an unknown model or checkpoint.
    """
    size = model_config(config.model, **_tuples(dict(config.model_settings))).input_size
    # the last one's weights stay
    for path in (resumed, *reversed(config.init_from)):
        if path is not None and (own := read_preprocessing(path)) is not None:
            return Preprocessing.from_dict(own).scaled(size)
    return default_preprocessing(size)


def freeze_backbones(model: FacialExpressionModel) -> None:
    """Stops gradients of both streams; `set_training_mode` keeps their BatchNorm statistics too."""
    for name in model.encoder.backbones:
        getattr(model.encoder, name).requires_grad_(False)


def set_training_mode(model: FacialExpressionModel, frozen: bool) -> None:
    """Training mode for what learns, evaluation mode for frozen backbones."""
    model.train()
    if frozen:
        for name in model.encoder.backbones:
            getattr(model.encoder, name).eval()


def check_batches(config: TrainConfig, data: Data, world: int) -> int:
    """Steps per epoch. Every global batch is full: what is left over at the end of an epoch is dropped.

    Raises EdgefelError if the batch cannot be divided over the processes or an epoch holds less than one.
    """
    if config.batch_size % world:
        raise EdgefelError(
            f"batch_size {config.batch_size} cannot be divided over {world} processes; "
            f"use a multiple of {world}"
        )
    steps = len(data.sampler) // config.batch_size
    if steps == 0:
        raise EdgefelError(
            f"an epoch has {counted(len(data.sampler), 'image')}, fewer than one batch of "
            f"{config.batch_size}; lower --batch-size or raise --per-class"
        )
    return steps


def absolute(config: TrainConfig) -> TrainConfig:
    """`config` with absolute paths, so that a run can be resumed from any folder."""
    # not resolve(), which would follow links that may be meant to change
    data = os.path.abspath(config.data) if config.data else ""  # noqa: PTH100
    starts = tuple(os.path.abspath(path) for path in config.init_from)  # noqa: PTH100
    loss = config.loss
    if loss.prior not in (FROM_UNIFORM, FROM_VOTES):
        loss = replace(loss, prior=os.path.abspath(loss.prior))  # noqa: PTH100
    return replace(config, data=data, init_from=starts, loss=loss)
