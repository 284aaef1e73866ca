"""A calibration set on disk: which pictures, chosen how, and a hash of each, so that it can be checked and reused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgefel.calib.samples import balanced_samples
from edgefel.data.folder import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.files import read_json, sha256, write_json

FORMAT = "edgefel-calibration"
VERSION = 1
# pictures of these splits are for judging a model
HELD_OUT = ("val", "test")

LabelledBy = Literal["labels", "predictions"]


@dataclass(frozen=True)
class CalibrationImage:
    """One picture. path: relative to the set's `root`. label: its class, or what a model took it for."""

    path: str
    label: str
    group: str
    sha256: str


@dataclass(frozen=True)
class CalibrationSet:
    """The pictures in the order in which they calibrate, and how they were chosen.

    labelled_by: "predictions" where the data has no labels and a model's stood in for them. short: classes
    with fewer pictures than `per_class`.
    """

    root: str
    labels: tuple[str, ...]
    images: tuple[CalibrationImage, ...]
    per_class: int
    group_cap: int
    seed: int
    labelled_by: LabelledBy
    preprocessing: dict[str, Any] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each class, in the order of the labels."""
        found = Counter(image.label for image in self.images)
        return {label: found[label] for label in self.labels}

    @property
    def groups(self) -> dict[str, int]:
        """Pictures of each subject or video."""
        return dict(sorted(Counter(image.group for image in self.images).items()))

    @property
    def short(self) -> tuple[str, ...]:
        """Classes that have fewer pictures than were asked for."""
        return tuple(label for label, count in self.counts.items() if count < self.per_class)

    def key(self) -> str:
        """A hash of everything that decides what calibration sees; not of where the folder is."""
        content = {name: value for name, value in asdict(self).items() if name != "root"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def open(self) -> ImageDataset:
        """The pictures as a data set, in order; raises EdgefelError naming the first that changed or is gone."""
        root = Path(self.root)
        samples = []
        for image in self.images:
            path = root / image.path
            if not path.is_file():
                raise EdgefelError(f"{path}: no such file, but the calibration set lists it; calibrate again")
            if sha256(path) != image.sha256:
                raise EdgefelError(f"{path}: has changed since it was chosen; make the calibration set again")
            samples.append(Sample(path, self.labels.index(image.label), image.group, "train"))
        return ImageDataset(root, self.labels, tuple(samples))


def choose_calibration_set(
    dataset: ImageDataset,
    per_class: int,
    group_cap: int,
    seed: int,
    *,
    labelled_by: LabelledBy = "labels",
    preprocessing: dict[str, Any] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> CalibrationSet:
    """Balanced pictures of the split train (of all, where there are no splits), each hashed.

    `advance` is told (pictures hashed, pictures). Raises EdgefelError as `balanced_samples` does, and for a
    picture that cannot be read.
    """
    pool = [i for i, sample in enumerate(dataset.samples) if sample.split not in HELD_OUT]
    choice = balanced_samples(dataset, per_class, group_cap, seed, among=pool or range(len(dataset)))
    images = []
    for index in choice.indices:
        sample = dataset.samples[index]
        try:
            digest = sha256(sample.path)
        except OSError as error:
            raise EdgefelError(
                f"{sample.path}: cannot be read ({error.strerror}); take it out of the data"
            ) from None
        relative = os.path.relpath(sample.path, dataset.root).replace(os.sep, "/")
        images.append(CalibrationImage(relative, dataset.labels[sample.label], sample.group, digest))
        advance(len(images), len(choice.indices))
    root = str(dataset.root.resolve())
    return CalibrationSet(
        root, dataset.labels, tuple(images), per_class, group_cap, seed, labelled_by, preprocessing
    )


def write_calibration_set(path: str | os.PathLike[str], chosen: CalibrationSet) -> None:
    """Writes a JSON file, atomically."""
    derived = {
        "counts": chosen.counts,
        "groups": chosen.groups,
        "short": list(chosen.short),
        "key": chosen.key(),
    }
    write_json(path, {"format": FORMAT, "version": VERSION, **derived, **asdict(chosen)})


def read_calibration_set(path: str | os.PathLike[str]) -> CalibrationSet:
    """Reads what `write_calibration_set` wrote; raises EdgefelError for another or an edited file."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise EdgefelError(
            f"{path}: is not a calibration set; make one with: edgefel calibrate DATA -o {path}"
        )
    if data.get("version") != VERSION:
        raise EdgefelError(
            f"{path}: version {data.get('version')}, this edgefel reads {VERSION}; make it again"
        )
    try:
        chosen = CalibrationSet(
            root=str(data["root"]),
            labels=tuple(data["labels"]),
            images=tuple(CalibrationImage(**image) for image in data["images"]),
            per_class=data["per_class"],
            group_cap=data["group_cap"],
            seed=data["seed"],
            labelled_by=data["labelled_by"],
            preprocessing=data["preprocessing"],
        )
    except (KeyError, TypeError) as error:
        raise EdgefelError(f"{path}: an entry is missing or unknown ({error}); make it again") from None
    unknown = {image.label for image in chosen.images} - set(chosen.labels)
    if unknown or not chosen.images:
        raise EdgefelError(f"{path}: lists {sorted(unknown) or 'no pictures'}; make it again")
    if data.get("key") != chosen.key():
        raise EdgefelError(f"{path}: was edited (its key does not match its contents); make it again")
    return chosen
