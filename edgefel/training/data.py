"""The data of a run: splits opened, copies of held-out images left out, labels made noisy, epochs balanced."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefel.data.dataset import ImageDataset
from edgefel.data.framing import FramingFound, for_images_like, measure_framing
from edgefel.data.inspection.duplicates import copies_elsewhere
from edgefel.data.loading.batches import ImageSource
from edgefel.data.loading.sampling import BalancedEpoch, UniformEpoch
from edgefel.data.open import only_split, open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.documents import read_json
from edgefel.runtime.faces import crop_detector
from edgefel.tasks.threads import Threads
from edgefel.text import counted
from edgefel.training.config import TrainConfig
from edgefel.training.log import loading_bar
from edgefel.training.prior import read_prior
from edgefel.training.randomness import Purpose, derive_seed


@dataclass(frozen=True)
class CopiesLeftOut:
    """Training images left out because of a copy in val or test: paths, by kind of copy.

    of: number of images in the split train.
    """

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
    """The images of a run.

    val: None without a validation split. targets: int64 [N], or float32 [N, C] when training on soft labels. prior:
    float32 [C, C], None for cross-entropy. votes: for FER+, the file of the labels. left_out: None where copies were
    not searched.
    """

    labels: tuple[str, ...]
    train: ImageSource
    val: ImageSource | None
    sampler: BalancedEpoch | UniformEpoch
    targets: Tensor
    prior: Tensor | None
    votes: Votes | None = None
    left_out: CopiesLeftOut | None = None

    def fingerprint(self) -> str:
        """SHA-256 of the classes and of the training images' labels in order, wherever the images lie."""
        digest = hashlib.sha256("\n".join(self.labels).encode())
        digest.update(self.train.dataset.targets().tobytes())  # not soft labels, which are rounded by machine
        return digest.hexdigest()

    @property
    def sources(self) -> dict[str, ImageSource]:
        """The images by split."""
        splits = {"train": self.train, "val": self.val}
        return {split: source for split, source in splits.items() if source is not None}

    def steps_per_epoch(self, batch_size: int, world: int) -> int:
        """Every global batch is full: the remainder of an epoch is dropped.

        Raises EdgefelError if the batch cannot be divided over the processes or an epoch holds less than one.
        """
        if batch_size % world:
            raise EdgefelError(
                f"batch_size {batch_size} cannot be divided over {world} processes; use a multiple of {world}"
            )
        steps = len(self.sampler) // batch_size
        if steps == 0:
            raise EdgefelError(
                f"an epoch has {counted(len(self.sampler), 'image')}, fewer than one batch of "
                f"{batch_size}; lower --batch-size or raise --per-class"
            )
        return steps


def open_data(
    config: TrainConfig,
    preprocessing: Preprocessing,
    labels: Sequence[str] | None = None,
    *,
    left_out: CopiesLeftOut | None = None,
    quiet: bool = True,
) -> Data:
    """Opens the training and validation splits; a bar shows the search for copies unless `quiet`.

    preprocessing: its `detail` and `colour` become those of the training images.

    labels: class order of a resumed model, which has the same classes. left_out: what the resumed run left out; copies
    are searched anew only if these are other images. Raises EdgefelError if there is nothing to train on.
    """
    if not config.data:
        raise EdgefelError("no data set named; give --data DIR, or make one with: edgefel data synth -o DIR")
    everything = open_dataset(config.data, layout=config.full_layout)
    if labels is not None:
        everything = everything.reordered(labels)
    train, known, left_out = only_split(everything, "train"), left_out, None
    if config.without_copies:
        train, left_out = _without(train, known) or _without_copies(config, everything, train, quiet)
    if config.label_noise:
        if config.loss.soft_labels:
            raise EdgefelError("label_noise changes labels, not soft labels; leave out one of the two")
        noisy = with_label_noise(train.targets(), config.label_noise, len(train.labels), config.seed)
        train = train.relabelled(noisy)
    _check_classes(config, train)
    if not config.qat:  # a trained network keeps its own
        preprocessing = for_images_like(preprocessing, train)
    sources = [
        ImageSource(dataset, preprocessing, workers=config.compute.workers, cache_mb=config.compute.cache_mb)
        for dataset in (train, everything.subset(everything.in_split("val")))
    ]
    loss, seed = config.loss, derive_seed(config.seed, Purpose.ORDER)
    balanced = BalancedEpoch(
        train.targets(), train.groups(), per_class=config.per_class, per_group=config.per_group, seed=seed
    )
    return Data(
        train.labels,
        sources[0],
        sources[1] if len(sources[1].dataset) else None,
        balanced if config.balanced else UniformEpoch(len(train), len(balanced), seed),
        _soft_targets(train) if loss.soft_labels else torch.from_numpy(train.targets()),
        None if loss.criterion == "cross-entropy" else read_prior(loss.prior, train),
        everything.votes,
        left_out,
    )


def run_framing(data: Data) -> FramingFound:
    """Where the eyes lie in the training images, by OpenCV's cascades: half a second for 100 images."""
    return measure_framing(data.train.dataset, crop_detector())


def with_label_noise(
    targets: NDArray[np.int64], share: float, num_classes: int, seed: int
) -> NDArray[np.int64]:
    """A copy of `targets` [N] in which round(share * N) labels are another class, all others equally likely.

    For experiments (ARBEx table 2). With one seed, the wrong labels of a lower share are also wrong, in the same way,
    at a higher one.
    """
    rng = np.random.default_rng(derive_seed(seed, Purpose.LABELS))
    order = rng.permutation(len(targets))
    shift = rng.integers(1, num_classes, len(targets))
    wrong = order[: round(share * len(targets))]
    noisy = targets.copy()
    noisy[wrong] = (targets[wrong] + shift[wrong]) % num_classes
    return noisy


def left_out_before(file: Path, before: str, now: str) -> CopiesLeftOut | None:
    """What a resumed run left out by its `LEFT_OUT_NAME`, with paths for data that moved; None without the file.

    before, now: the folder of the data then and now.
    """
    if not file.is_file():
        return None
    values = read_json(file, {"equal_files": [str], "look_alikes": [str], "of": int})
    equal, alike = (
        tuple(str(Path(now, os.path.relpath(path, before))) for path in values[kind])
        for kind in ("equal_files", "look_alikes")
    )
    return CopiesLeftOut(equal, alike, values["of"])


def _without(train: ImageDataset, known: CopiesLeftOut | None) -> tuple[ImageDataset, CopiesLeftOut] | None:
    """The training images without those `known` ones; None if these are not the images it was found among."""
    if known is None or known.of != len(train):
        return None
    names = {*known.equal_files, *known.look_alikes}
    kept = [index for index, sample in enumerate(train.samples) if str(sample.path) not in names]
    return (train.subset(kept), known) if kept and len(kept) + len(names) == len(train) else None


def _without_copies(
    config: TrainConfig, everything: ImageDataset, train: ImageDataset, quiet: bool
) -> tuple[ImageDataset, CopiesLeftOut]:
    """The training images without a copy in val or test, and the others."""
    if not (everything.in_split("val").size or everything.in_split("test").size):
        raise EdgefelError(
            f"{everything.root}: has neither val nor test, so that nothing can have a copy there; leave out "
            "--without-copies"
        )
    shown = not quiet and os.environ.get("LOCAL_RANK", "0") == "0"
    with loading_bar(len(everything), shown=shown, text="looking for copies") as advance:
        found = copies_elsewhere(everything, runner=Threads(max(config.compute.workers, 1)), progress=advance)
    found = found.at(everything.in_split("train"))
    left = train.subset(np.flatnonzero(~found.any))
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
    equal, alike = (
        tuple(str(train.samples[int(index)].path) for index in np.flatnonzero(chosen))
        for chosen in (found.equal, found.alike)
    )
    return left, CopiesLeftOut(equal, alike, len(train))


def _check_classes(config: TrainConfig, dataset: ImageDataset) -> None:
    count = len(dataset.labels)
    if config.num_classes is not None and config.num_classes != count:
        raise EdgefelError(
            f"{dataset.root}: has {counted(count, 'class', 'classes')} ({', '.join(dataset.labels)}), but "
            f"num_classes is {config.num_classes}; leave it out or use other data"
        )
    if "num_classes" in config.model_settings:
        raise EdgefelError("model_settings: set num_classes as a setting of its own, beside model_settings")


def _soft_targets(dataset: ImageDataset) -> Tensor:
    rows = dataset.soft_targets()
    if rows is None:
        raise EdgefelError(f"{dataset.root}: has no soft labels; leave out --soft-labels")
    soft = torch.from_numpy(rows)
    return soft / soft.sum(1, keepdim=True)
