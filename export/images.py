"""Which images an export calibrates on and compares with: two sets that do not overlap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.calib.calibration_set import HELD_OUT, read_calibration_set
from edgefel.calib.samples import LabelledImages, LabelledSample, SampleChoice, balanced_samples
from edgefel.data.dataset import MatchedDataset
from edgefel.data.labels import check_judgeable, expression_labels, match_labels
from edgefel.data.open import open_dataset
from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.errors import EdgefelError

PARITY_IMAGES = 32
SYNTHETIC_POOL = 1024  # faces to choose from; they are drawn only when chosen


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
class ExportImages:
    """calibration: None when nothing is calibrated. sources: what the manifest says about both sets. classes: whose
    classes are compared on, None where model and data have the same (`MatchedDataset.to_dict`)."""

    dataset: LabelledImages
    calibration: SampleChoice | None
    parity_dataset: LabelledImages
    parity: tuple[int, ...]
    sources: dict[str, Any]
    warnings: tuple[str, ...]
    classes: dict[str, Any] | None = None


def choose_images(
    data: str | os.PathLike[str] | None,
    labels: Sequence[str],
    *,
    calibrate: bool,
    per_class: int,
    group_cap: int,
    seed: int,
    parity_images: int = PARITY_IMAGES,
    calibration_set: str | os.PathLike[str] | None = None,
    layout: str | None = None,
) -> ExportImages:
    """Chooses both sets from `data`, or from synthetic faces where `data` is None.

    `calibration_set`, a file of `edgefel calibrate`, fixes the images to calibrate on; `data` is then only
    compared on, and the folder that the set was chosen from where `data` is None. layout: of `data`, as `open_dataset`
    takes it.

    Calibration takes balanced samples of the split train, or of everything where there are no splits. The
    comparison takes images of val and test, or else any that calibration left; failing these, noise.

    Classes are matched by name, and images of classes that the model lacks are left out. Raises EdgefelError if the
    data set shares too few classes with the model, or too few images are there.
    """
    if calibration_set is not None and calibrate:
        return _from_set(calibration_set, data, layout, labels, seed, parity_images)
    warnings: list[str] = []
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
        dataset = matched.dataset
        name = dataset.source
        warnings += matched.notes()
    splits = [_split(sample) for sample in dataset.samples]
    choice = None
    if calibrate:
        pool = [i for i, split in enumerate(splits) if split not in HELD_OUT] or list(range(len(splits)))
        choice = balanced_samples(dataset, per_class, group_cap, seed, among=pool)
        if choice.short:
            listed = ", ".join(f"{label} {choice.counts[label]}" for label in choice.short)
            warnings.append(f"fewer than {per_class} calibration images: {listed}")
    parity_set, parity = _parity_choice(dataset, splits, choice, labels, seed, parity_images)
    if parity_set is not dataset:
        warnings.append("no image is left that calibration did not use: files are compared on noise")
    sources = {
        "calibration": None
        if choice is None
        else {"images": name, "counts": dict(choice.counts), "seed": seed},
        "parity": name if parity_set is dataset else "noise",
    }
    return ExportImages(dataset, choice, parity_set, parity, sources, tuple(warnings), _classes(matched))


def _from_set(
    file: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    layout: str | None,
    labels: Sequence[str],
    seed: int,
    parity_images: int,
) -> ExportImages:
    """Calibrates on a chosen set; compares on images that are not in it."""
    chosen = read_calibration_set(file)
    calibrating = chosen.open()
    match = match_labels(labels, calibrating.labels)
    check_judgeable(match, os.fspath(file))
    place, laid_out = (chosen.root, chosen.layout) if data is None else (data, layout)
    matched = open_dataset(place, layout=laid_out).matched(labels)
    comparing = matched.dataset
    used = {sample.path.resolve() for sample in calibrating.samples}
    same = tuple(i for i, sample in enumerate(comparing.samples) if sample.path.resolve() in used)
    splits = [sample.split for sample in comparing.samples]
    taken = SampleChoice(same, {}, ())
    parity_set, parity = _parity_choice(comparing, splits, taken, labels, seed, parity_images)
    warnings = [
        f"fewer than {chosen.per_class} calibration images: {label} {chosen.counts[label]}"
        for label in chosen.short
    ]
    warnings += matched.notes()
    if match.only_other:
        # a set is used as it was chosen, or its key would say nothing
        warnings.append(
            f"{os.fspath(file)}: images of classes that the model lacks calibrate too: {', '.join(match.only_other)}"
        )
    if parity_set is not comparing:
        warnings.append("no image is left that calibration did not use: files are compared on noise")
    choice = SampleChoice(tuple(range(len(calibrating))), chosen.counts, chosen.short)
    sources = {
        "calibration": {
            "images": chosen.root,
            "counts": chosen.counts,
            "seed": chosen.seed,
            "key": chosen.key(),
        },
        "parity": comparing.source if parity_set is comparing else "noise",
    }
    return ExportImages(calibrating, choice, parity_set, parity, sources, tuple(warnings), _classes(matched))


def _parity_choice(
    dataset: LabelledImages,
    splits: Sequence[str],
    choice: SampleChoice | None,
    labels: Sequence[str],
    seed: int,
    count: int,
) -> tuple[LabelledImages, tuple[int, ...]]:
    used = set(choice.indices) if choice is not None else set()
    left = [i for i in range(len(splits)) if i not in used]
    pool = [i for i in left if splits[i] in HELD_OUT] or left
    if not pool:
        return NoiseImages(labels, count, 256, seed), tuple(range(count))
    picked = np.random.default_rng([seed, 1]).permutation(np.asarray(pool))[:count]
    return dataset, tuple(int(i) for i in sorted(picked))


def _classes(matched: MatchedDataset | None) -> dict[str, Any] | None:
    return matched.to_dict() if matched is not None and matched.notes() else None


def _split(sample: LabelledSample) -> str:
    return str(getattr(sample, "split", ""))
