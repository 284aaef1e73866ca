"""A calibration set on disk: which pictures, chosen how, and a hash of each, so that it can be checked and reused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgefel.calib.samples import balanced_samples
from edgefel.data.folder import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.files import read_json, sha256, write_json
from edgefel.runtime.preprocessing import Preprocessing

FORMAT = "edgefel-calibration"
VERSION = 2
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
class LabellingModel:
    """Whose predictions stood in for labels. file: the FP32 weights that ran, with their hash."""

    name: str
    file: str
    sha256: str


@dataclass(frozen=True)
class CalibrationSet:
    """The pictures in the order in which they calibrate, and how they were chosen; checked at construction.

    labelled_by: "predictions" where those of `model` stood in for labels; `model` is None otherwise.
    preprocessing: `Preprocessing.to_dict()` of the model that the set was made for, None if none was given.
    short: classes with fewer pictures than `per_class`.
    """

    root: str
    labels: tuple[str, ...]
    images: tuple[CalibrationImage, ...]
    per_class: int
    group_cap: int
    seed: int
    labelled_by: LabelledBy
    preprocessing: dict[str, Any] | None = None
    model: LabellingModel | None = None

    def __post_init__(self) -> None:
        if self.labelled_by not in get_args(LabelledBy):
            raise EdgefelError(
                f"labelled_by is {self.labelled_by!r}; use {' or '.join(get_args(LabelledBy))}"
            )
        if (self.labelled_by == "predictions") != (self.model is not None):
            raise EdgefelError(
                "a calibration set names a model exactly where predictions stand in for labels"
            )
        if self.preprocessing is not None:
            Preprocessing.from_dict(self.preprocessing)

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


def calibration_pool(dataset: ImageDataset) -> list[int]:
    """Indices that calibration may use: all but the splits val and test, or everything if nothing else is there."""
    pool = [i for i, sample in enumerate(dataset.samples) if sample.split not in HELD_OUT]
    return pool or list(range(len(dataset)))


def calibration_image(dataset: ImageDataset, index: int) -> CalibrationImage:
    """The picture as a calibration set lists it, hashed; raises EdgefelError if it cannot be read."""
    sample = dataset.samples[index]
    try:
        digest = sha256(sample.path)
    except OSError as error:
        raise EdgefelError(
            f"{sample.path}: cannot be read ({error.strerror}); take it out of the data"
        ) from None
    relative = os.path.relpath(sample.path, dataset.root).replace(os.sep, "/")
    return CalibrationImage(relative, dataset.labels[sample.label], sample.group, digest)


def choose_calibration_set(
    dataset: ImageDataset,
    per_class: int,
    group_cap: int,
    seed: int,
    *,
    model: LabellingModel | None = None,
    preprocessing: Preprocessing | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> CalibrationSet:
    """Balanced pictures of the split train (of all, where there are no splits), each hashed.

    model: whose predictions the labels of `dataset` are; None if they are labels. `advance` is told (pictures
    hashed, pictures). Raises EdgefelError as `balanced_samples` and `calibration_image` do.
    """
    choice = balanced_samples(dataset, per_class, group_cap, seed, among=calibration_pool(dataset))
    images = []
    for index in choice.indices:
        images.append(calibration_image(dataset, index))
        advance(len(images), len(choice.indices))
    return CalibrationSet(
        root=str(dataset.root.resolve()),
        labels=dataset.labels,
        images=tuple(images),
        per_class=per_class,
        group_cap=group_cap,
        seed=seed,
        labelled_by="labels" if model is None else "predictions",
        preprocessing=None if preprocessing is None else preprocessing.to_dict(),
        model=model,
    )


def check_preprocessing(
    chosen: CalibrationSet, preprocessing: Preprocessing | Mapping[str, Any], name: str = "calibration set"
) -> None:
    """Refuses a set that was made for a model with other preprocessing than `preprocessing`, the checkpoint's.

    A set that names none fits every model. Strides may differ: `edgefel export --input-size` moves a model's own
    resample between the graph and the preprocessing, and the network sees the same pixels.

    Raises EdgefelError with `name` (the file) and what differs.
    """
    if chosen.preprocessing is None:
        return
    wanted = (
        preprocessing if isinstance(preprocessing, Preprocessing) else Preprocessing.from_dict(preprocessing)
    )
    # through from_dict, so that lists of a JSON file and integers for floats compare as what they mean
    own, other = Preprocessing.from_dict(chosen.preprocessing).to_dict(), wanted.to_dict()
    different = [key for key in own if key != "stride" and own[key] != other[key]]
    if different:
        listed = ", ".join(f"{key} {own[key]} against {other[key]}" for key in different)
        raise EdgefelError(
            f"{name}: was made for other preprocessing than the checkpoint's ({listed}); make it again with: "
            "edgefel calibrate DATA --checkpoint RUN"
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
            model=None if data["model"] is None else LabellingModel(**data["model"]),
        )
    except (KeyError, TypeError) as error:
        raise EdgefelError(f"{path}: an entry is missing or unknown ({error}); make it again") from None
    unknown = {image.label for image in chosen.images} - set(chosen.labels)
    if unknown or not chosen.images:
        raise EdgefelError(f"{path}: lists {sorted(unknown) or 'no pictures'}; make it again")
    if data.get("key") != chosen.key():
        raise EdgefelError(f"{path}: was edited (its key does not match its contents); make it again")
    return chosen
