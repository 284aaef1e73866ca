"""Images to calibrate on and images held out to compare on: two disjoint sets, each image read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.calib.calibration_set import (
    HELD_OUT,
    CalibrationSet,
    calibration_pool,
    read_calibration_set,
    record_images,
)
from edgefel.calib.sampling import LabelledImages, SampleChoice, balanced_samples
from edgefel.data.dataset import ImageDataset, MatchedDataset, Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import check_judgeable, expression_labels, match_labels
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Image, Preprocessing, Tensor
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.errors import EdgefelError
from edgefel.progress import SILENT, Progress

SYNTHETIC_POOL = 1024  # faces to choose from; they are drawn only when chosen
UNLABELLED_IMAGES = 32  # without labels there are only deviations to look at, and these need few images
CANDIDATES = 50_000  # held-out images that the compared ones are drawn from
BATCH = 8


@dataclass(frozen=True)
class SyntheticSample:
    """A synthetic face before it is drawn; `group` is its subject."""

    label: int
    group: str
    split: str


class SyntheticImages:
    """Synthetic faces in the shape of a labelled image set."""

    def __init__(self, labels: Sequence[str], seed: int) -> None:
        if len(labels) not in (7, 8) or not match_labels(labels, expression_labels(len(labels))).same_classes:
            raise EdgefelError(
                f"synthetic faces show the standard 7 or 8 expressions, and the model's labels are "
                f"{', '.join(labels)}; give images of these with --data"
            )
        self._faces = SyntheticFaces(FaceOptions(count=SYNTHETIC_POOL, classes=len(labels), seed=seed))
        self.labels = self._faces.labels
        self.samples = tuple(
            SyntheticSample(plan.label, str(plan.subject), plan.split)
            for plan in (self._faces.plan(i) for i in range(len(self._faces)))
        )

    def load(self, index: int) -> npt.NDArray[np.uint8]:
        """Draws the face: uint8 RGB [H, W, 3]."""
        return self._faces.sample(index).image


class NoiseImages:
    """Seeded noise, for a comparison where no image is left for it."""

    def __init__(self, labels: Sequence[str], count: int, size: int, seed: int) -> None:
        self.labels = tuple(labels)
        self.samples = tuple(SyntheticSample(i % len(labels), str(i), "") for i in range(count))
        self._size, self._seed = size, seed

    def load(self, index: int) -> npt.NDArray[np.uint8]:
        """uint8 [size, size, 3], uniform."""
        rng = np.random.default_rng([self._seed, index])
        return rng.integers(0, 256, (self._size, self._size, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ChosenImages:
    """The images that calibrate, and those that the compared ones are drawn from.

    calibration: indices into `dataset`, None when nothing is calibrated. held_out: indices into `held_out_dataset`, at
    most CANDIDATES. sources: entries of the manifest on both. given: the calibration set, if there was one. classes:
    the classes compared on, None where model and data have the same (`MatchedDataset.to_dict`).
    """

    dataset: LabelledImages
    calibration: SampleChoice | None
    held_out_dataset: LabelledImages
    held_out: tuple[int, ...]
    sources: dict[str, Any]
    warnings: tuple[str, ...]
    given: CalibrationSet | None = None
    classes: dict[str, Any] | None = None

    @property
    def labelled(self) -> bool:
        """Whether the labels of the held-out images mean anything."""
        return isinstance(self.held_out_dataset, ImageDataset)

    def record(
        self, per_class: int, group_cap: int, seed: int, preprocessing: Preprocessing, layout: str | None
    ) -> tuple[CalibrationSet | None, LabelledImages, Sequence[int]]:
        """The images that calibrate as a set, each with its hash, and where to read them: data set and indices.

        The set is None where nothing is calibrated, or synthetic faces are. An image that cannot be read is left out of
        it. The images have been read for their hashes and stay in memory.
        """
        indices = () if self.calibration is None else self.calibration.indices
        if self.given is not None:
            return self.given, self.dataset, indices
        if self.calibration is None or not isinstance(self.dataset, ImageDataset):
            return None, self.dataset, indices
        chosen, held = record_images(
            self.dataset,
            indices,
            per_class,
            group_cap,
            seed,
            preprocessing=preprocessing,
            layout=layout,
            skip_unreadable=True,
        )
        return chosen, held, range(len(held))

    def draw(
        self, count: int, seed: int, seen: Collection[str] = (), *, search: int = 0
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Held-out images that calibration did not see: `search` for the mixed-precision search, `count` to compare on.

        seen: as `draw_unseen` takes it. Where there are splits val and test, the first come from val, the others from
        test. Otherwise the first are at most half of all, evenly from the classes.
        """
        dataset, pool = self.held_out_dataset, self.held_out
        searched: tuple[int, ...] = ()
        if search:
            val, test = (
                tuple(i for i in pool if dataset.samples[i].split == split) for split in ("val", "test")
            )
            if val and test:
                searched, pool = draw_unseen(dataset, val, search, seed, seen)[0], test
            else:
                searched = draw_unseen(dataset, pool, min(search, len(pool) // 2), seed, seen)[0]
                taken = set(searched)
                pool = tuple(index for index in pool if index not in taken)
        count = count if self.labelled else min(count, UNLABELLED_IMAGES)
        return searched, draw_unseen(dataset, pool, count, seed, seen)[0]


def choose_images(
    data: str | os.PathLike[str] | None,
    labels: Sequence[str],
    *,
    calibrate: bool,
    per_class: int,
    group_cap: int,
    seed: int,
    calibration_set: str | os.PathLike[str] | None = None,
    layout: str | None = None,
) -> ChosenImages:
    """Chooses both sets from `data`, or from synthetic faces where `data` is None.

    `calibration_set`, a file of `edgefel calibrate` or of a bundle, fixes the images to calibrate on; `data` is then
    only compared on, and the folder that the set was chosen from where `data` is None. If that folder is not where the
    file says, its images are those of `data`. layout: of `data`, as `open_dataset` takes it.

    Calibration takes balanced samples of the split train, or of everything where there are no splits. The
    comparison takes images of val and test, or else any that calibration left; failing these, noise.

    Classes are matched by name, and images of classes that the model lacks are left out. Raises EdgefelError if the
    data set shares too few classes with the model, or too few images are there.
    """
    warnings: list[str] = []
    given = read_calibration_set(calibration_set) if calibrate and calibration_set is not None else None
    if given is not None:
        given = _found(given, str(calibration_set), data)
        if data is None:
            data, layout = given.root, given.layout
    matched: MatchedDataset | None = None
    dataset: LabelledImages
    if data is None:
        dataset, name = SyntheticImages(labels, seed), "synthetic faces"
        if calibrate:
            warnings.append(
                "no --data given: INT8 is calibrated on synthetic faces; use real faces for a device"
            )
    else:
        matched = open_dataset(data, layout=layout).matched(labels)
        dataset, name = matched.dataset, matched.dataset.source
        warnings += matched.notes()
    calibrating, choice, source = dataset, None, None
    used: Collection[int] = ()
    if given is not None and matched is not None:
        calibrating, choice, source = _given(given, str(calibration_set), labels, warnings)
        paths = {sample.path.resolve() for sample in calibrating.samples}
        used = [i for i, sample in enumerate(matched.dataset.samples) if sample.path.resolve() in paths]
    elif calibrate:
        choice = balanced_samples(dataset, per_class, group_cap, seed, among=calibration_pool(dataset))
        used = choice.indices
        source = {"images": name, "counts": dict(choice.counts), "seed": seed}
    if choice is not None and choice.short:
        wanted = per_class if given is None else given.per_class
        listed = ", ".join(f"{label} {choice.counts[label]}" for label in choice.short)
        warnings.append(f"fewer than {wanted} calibration images: {listed}")
    held_out_dataset, held_out = _held_out(dataset, used, labels, seed)
    if held_out_dataset is not dataset:
        warnings.append("no image is left that calibration did not use: files are compared on noise")
    return ChosenImages(
        calibrating,
        choice,
        held_out_dataset,
        held_out,
        {"calibration": source, "parity": name if held_out_dataset is dataset else "noise"},
        tuple(warnings),
        given,
        matched.to_dict() if matched is not None and matched.notes() else None,
    )


def _found(given: CalibrationSet, file: str, data: str | os.PathLike[str] | None) -> CalibrationSet:
    """The set with a folder of images that is there: its own, or else `data`."""
    if Path(given.root).exists():
        return given
    if data is None:
        raise EdgefelError(f"{file}: its images are not in {given.root}; say where they are with --data")
    return replace(given, root=str(Path(data).absolute()))


def _given(
    given: CalibrationSet, file: str, labels: Sequence[str], warnings: list[str]
) -> tuple[ImageDataset, SampleChoice, dict[str, Any]]:
    """A set as it was chosen: its images, all of them, and the manifest's entry."""
    calibrating = given.open()
    match = match_labels(labels, calibrating.labels)
    check_judgeable(match, file)
    if match.only_other:
        # with images left out its key would say nothing
        listed = ", ".join(match.only_other)
        warnings.append(f"{file}: images of classes that the model lacks calibrate too: {listed}")
    choice = SampleChoice(tuple(range(len(calibrating))), given.counts, given.short)
    source = {"images": calibrating.source, "counts": given.counts, "seed": given.seed, "key": given.key()}
    return calibrating, choice, source


def _held_out(
    dataset: LabelledImages, used: Collection[int], labels: Sequence[str], seed: int
) -> tuple[LabelledImages, tuple[int, ...]]:
    splits = [sample.split for sample in dataset.samples]
    taken = set(used)
    left = [i for i in range(len(splits)) if i not in taken]
    pool = [i for i in left if splits[i] in HELD_OUT] or left
    if not pool:
        return NoiseImages(labels, UNLABELLED_IMAGES, 256, seed), tuple(range(UNLABELLED_IMAGES))
    picked = np.random.default_rng([seed, 1]).permutation(np.asarray(pool))[:CANDIDATES]
    return dataset, tuple(sorted(picked.tolist()))


@dataclass(frozen=True)
class ComparedImages:
    """Images in memory, as uint8 of the size that preprocessing resizes to: each is read once for all files.

    targets: true classes [N] in the order of the network's outputs; None where labels are not to be trusted.
    source: what the manifest calls them. skipped: names of those that could not be read. columns: the outputs of the
    classes that the data has, ascending; None for all.
    """

    crops: tuple[Image, ...]
    targets: npt.NDArray[np.int64] | None
    source: str
    skipped: tuple[str, ...] = ()
    columns: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def spread(self, count: int) -> ComparedImages:
        """`count` of them, from the first to the last at even steps; all, if there are no more."""
        if count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        targets = None if self.targets is None else self.targets[chosen]
        crops = tuple(self.crops[i] for i in chosen)
        return ComparedImages(crops, targets, self.source, columns=self.columns)

    def batches(self, preprocessing: Preprocessing, input_type: str = "float32") -> Iterator[Tensor | Image]:
        """At most BATCH of them at a time: float32 [n, 3, H, W], or uint8 [n, H, W, 3] for a file that normalises
        in the graph."""
        rest = preprocessing.after_resizing
        make = rest.pixel_batch if input_type == "uint8" else rest.batch
        for start in range(0, len(self.crops), BATCH):
            yield make(self.crops[start : start + BATCH])


def load_images(
    dataset: LabelledImages,
    indices: Sequence[int],
    labels: Sequence[str],
    preprocessing: Preprocessing,
    source: str,
    *,
    labelled: bool,
    progress: Progress = SILENT,
) -> ComparedImages:
    """Reads or draws the images; `labels` are the network's, `labelled` says whether the data's mean anything.

    The data's classes are matched by name and must all be the network's (`ImageDataset.matched`). Raises EdgefelError
    if there are no images, or none can be read.
    """
    if not indices:
        raise EdgefelError(
            f"{source}: no image is left to compare on that calibration did not see; give more data"
        )
    progress.start("load comparison images", len(indices))
    match = match_labels(labels, dataset.labels)
    column_of = dict(zip(match.numbers, match.columns, strict=True))
    crops: list[Image] = []
    targets: list[int] = []
    skipped: list[str] = []
    for index in indices:
        try:
            crops.append(preprocessing.resize_image(dataset.load(index)))
            targets.append(column_of[dataset.samples[index].label])
        except UnreadableImageError as error:
            skipped.append(error.path.name)
        progress.advance()
    if not crops:
        raise EdgefelError(
            f"{source}: none of {len(skipped)} comparison images can be read, e.g. {skipped[0]}"
        )
    true = np.asarray(targets, dtype=np.int64) if labelled else None
    columns = tuple(sorted(match.columns)) if match.only_model else None
    return ComparedImages(tuple(crops), true, source, tuple(skipped), columns)


def draw_evenly(dataset: LabelledImages, among: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """`count` of the indices (all, if there are fewer), sorted, as even over the classes as they allow: recall
    is judged class by class, and an image of a class that has plenty says less. Same seed, same draw."""
    return tuple(sorted(_even_order(dataset, among, seed)[:count].tolist()))


def draw_unseen(
    dataset: LabelledImages, among: Sequence[int], count: int, seed: int, seen: Collection[str] = ()
) -> tuple[tuple[int, ...], int]:
    """As `draw_evenly`, without images that calibrated; returns the indices and how many were passed over.

    seen: hex SHA-256 of encoded images, so that a copy under another name counts as the same image. Images are hashed
    in the order in which they are drawn, and only until there are enough. One that cannot be read is drawn: it is
    reported where images are loaded.
    """
    drawn: list[int] = []
    passed = 0
    for index in _even_order(dataset, among, seed).tolist():
        if len(drawn) == count:
            break
        if seen and _hash(dataset, index) in seen:
            passed += 1
        else:
            drawn.append(index)
    return tuple(sorted(drawn)), passed


def _even_order(dataset: LabelledImages, among: Sequence[int], seed: int) -> npt.NDArray[np.int64]:
    """The indices in random order, the classes taking turns as long as they last."""
    order = np.random.default_rng([seed, 1]).permutation(np.asarray(among, dtype=np.int64))
    labels = np.asarray([dataset.samples[index].label for index in order], dtype=np.int64)
    turn = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(int(own.sum()))
    return order[np.argsort(turn, kind="stable")]


def _hash(dataset: LabelledImages, index: int) -> str:
    sample = dataset.samples[index]
    try:
        return hashlib.sha256(sample.read()).hexdigest() if isinstance(sample, Sample) else ""
    except UnreadableImageError:
        return ""
