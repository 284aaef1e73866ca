"""A calibration set on disk: which images, chosen how, and a hash of each, so that it can be checked and reused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from edgefel.calib.sampling import LabelledImages, balanced_samples
from edgefel.data.dataset import Box, ImageDataset, ImageStore, Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import check_labels
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import write_json

FORMAT = "edgefel-calibration"
VERSION = 2
# images of these splits are for judging a model
HELD_OUT = ("val", "test")
HELD_BYTES = 256 * 2**20  # of encoded images in memory

LabelledBy = Literal["labels", "predictions"]


@dataclass(frozen=True)
class CalibrationImage:
    """One image. path: relative to the set's `root`; of a member of an archive, the archive's with the member behind
    it. label: its class, or what a model took it for. sha256: of the encoded image. box: the face, where the image
    shows more, (x, y, width, height) in pixels."""

    path: str
    label: str
    group: str
    sha256: str
    box: Box | None = None


@dataclass(frozen=True)
class LabellingModel:
    """Whose predictions stood in for labels. file: the FP32 weights that ran, with their hash."""

    name: str
    file: str
    sha256: str


@dataclass(frozen=True)
class CalibrationSet:
    """The images in the order in which they calibrate, and how they were chosen; checked at construction.

    labelled_by: "predictions" where those of `model` stood in for labels; `model` is None otherwise.
    preprocessing: `Preprocessing.to_dict()` of the model that the set was made for, None if none was given.
    layout: how `root` is laid out, as `open_dataset` takes it. short: classes with fewer images than `per_class`.
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
    layout: str | None = None

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
        """Images of each class, in the order of the labels."""
        found = Counter(image.label for image in self.images)
        return {label: found[label] for label in self.labels}

    @property
    def groups(self) -> dict[str, int]:
        """Images of each subject or video."""
        return dict(sorted(Counter(image.group for image in self.images).items()))

    @property
    def short(self) -> tuple[str, ...]:
        """Classes that have fewer images than were asked for."""
        return tuple(label for label, count in self.counts.items() if count < self.per_class)

    def key(self) -> str:
        """A hash of everything that decides what calibration sees; not of where the folder is."""
        content = {name: value for name, value in self.to_dict().items() if name not in ("root", "layout")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a layout and boxes that are None are left out."""
        # keys of sets from before there were boxes stay what they were
        images = [_without(asdict(image), "box") for image in self.images]
        return _without({**asdict(self), "images": images}, "layout")

    def open(self) -> ImageDataset:
        """The images in order, as a data set in memory; raises EdgefelError naming one that changed or is gone."""
        root = Path(self.root)
        members = self._members()
        memory, samples = _Memory(), []
        for image in self.images:
            path = _place(root, image.path)
            sample = Sample(path, self.labels.index(image.label), image.group, "train", box=image.box)
            if not path.is_file():
                if path not in members:
                    raise EdgefelError(
                        f"{path}: no such file, but the calibration set lists it; calibrate again"
                    )
                sample = replace(sample, store=members[path])
            held, digest = memory.hold(sample)
            if digest != image.sha256:
                raise EdgefelError(f"{path}: has changed since it was chosen; make the calibration set again")
            samples.append(held)
        return ImageDataset(root, self.labels, tuple(samples))

    def _members(self) -> dict[Path, tuple[ImageStore, int]]:
        """Where the listed images lie that are members of archives."""
        root = Path(self.root)
        if not any(_in_archive(_place(root, image.path)) for image in self.images):
            return {}
        found = open_dataset(root, layout=self.layout).samples
        return {_place(root, sample.path): sample.store for sample in found if sample.store is not None}


class _Memory:
    """Encoded images that were read once, up to HELD_BYTES of them (an `ImageStore`)."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._data: list[bytes] = []
        self._free = HELD_BYTES

    def hold(self, sample: Sample) -> tuple[Sample, str]:
        """The sample, read from here if there is room, and the SHA-256 of its image. Raises UnreadableImageError."""
        data = sample.read()
        digest = hashlib.sha256(data).hexdigest()
        if len(data) > self._free:
            return sample, digest
        self._free -= len(data)
        self._paths.append(sample.path)
        self._data.append(data)
        return replace(sample, store=(self, len(self._data) - 1)), digest

    def path(self, index: int) -> Path:
        """Where the image was read."""
        return self._paths[index]

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self._data[index]


def calibration_pool(dataset: LabelledImages) -> list[int]:
    """Indices that calibration may use: all but the splits val and test, or everything if nothing else is there."""
    splits = [sample.split for sample in dataset.samples]
    return [i for i, split in enumerate(splits) if split not in HELD_OUT] or list(range(len(splits)))


def _place(root: Path, path: str | Path) -> Path:
    """`path`, relative to `root`, without "..": the root of a manifest is a file, and nothing leads out of a file."""
    return Path(os.path.normpath(root / path))


def _in_archive(path: Path) -> bool:
    """Whether there is a file where a file's folder should be."""
    return not path.exists() and any(parent.is_file() for parent in path.parents)


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    """`values` less the one of this name, if it is None."""
    return {key: value for key, value in values.items() if key != name or value is not None}


def choose_calibration_set(
    dataset: ImageDataset,
    per_class: int,
    group_cap: int,
    seed: int,
    *,
    model: LabellingModel | None = None,
    preprocessing: Preprocessing | None = None,
    layout: str | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> CalibrationSet:
    """Balanced images of the split train (of all, where there are no splits), each hashed.

    Arguments as for `record_images`. Raises EdgefelError as it and `balanced_samples` do.
    """
    indices = balanced_samples(dataset, per_class, group_cap, seed, among=calibration_pool(dataset)).indices
    chosen, _ = record_images(
        dataset,
        indices,
        per_class,
        group_cap,
        seed,
        model=model,
        preprocessing=preprocessing,
        layout=layout,
        advance=advance,
    )
    return chosen


def record_images(
    dataset: ImageDataset,
    indices: Sequence[int],
    per_class: int,
    group_cap: int,
    seed: int,
    *,
    model: LabellingModel | None = None,
    preprocessing: Preprocessing | None = None,
    layout: str | None = None,
    skip_unreadable: bool = False,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[CalibrationSet, ImageDataset]:
    """Reads the images once: as a calibration set, drawn with these counts and seed, and as a data set in memory.

    model: whose predictions the labels of `dataset` are; None if they are labels. layout: what `dataset` was opened
    as, if that was said. skip_unreadable: an image that cannot be read is left out of the set and stays in the data
    set, where loading it raises; otherwise UnreadableImageError is raised here. `advance`: told (images read, images).
    """
    memory, entries, samples = _Memory(), [], []
    for index in indices:
        sample = dataset.samples[index]
        try:
            held, digest = memory.hold(sample)
        except UnreadableImageError:
            if not skip_unreadable:
                raise
            samples.append(sample)
        else:
            samples.append(held)
            relative = os.path.relpath(sample.path, dataset.root).replace(os.sep, "/")
            label = dataset.labels[sample.label]
            entries.append(CalibrationImage(relative, label, sample.group, digest, sample.box))
        advance(len(samples), len(indices))
    chosen = CalibrationSet(
        root=str(dataset.root.resolve()),
        labels=dataset.labels,
        images=tuple(entries),
        per_class=per_class,
        group_cap=group_cap,
        seed=seed,
        labelled_by="labels" if model is None else "predictions",
        preprocessing=None if preprocessing is None else preprocessing.to_dict(),
        model=model,
        layout=layout if dataset.votes is None else dataset.votes.layout,
    )
    return chosen, replace(dataset, samples=tuple(samples))


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
    # through from_dict, so that lists of a JSON file, integers for floats and fields left out compare as what they mean
    own, other = (
        {**values.to_dict(), "resample": values.resample}
        for values in (Preprocessing.from_dict(chosen.preprocessing), wanted)
    )
    different = [key for key in own if key != "stride" and own[key] != other[key]]
    if different:
        listed = ", ".join(f"{key} {own[key]} against {other[key]}" for key in different)
        raise EdgefelError(
            f"{name}: was made for other preprocessing than the checkpoint's ({listed}); make it again with: "
            "edgefel calibrate --data DATA --checkpoint RUN"
        )


def write_calibration_set(
    path: str | os.PathLike[str], chosen: CalibrationSet, *, portable: bool = False
) -> None:
    """Writes a JSON file, atomically. Raises EdgefelError if there is one.

    The folder of the images is noted relative to the file's. portable: its name alone, for a bundle, which goes to
    machines that have no business with the folders of this one.
    """
    derived = {
        "counts": chosen.counts,
        "groups": chosen.groups,
        "short": list(chosen.short),
        "key": chosen.key(),
    }
    root = Path(chosen.root).name if portable else os.path.relpath(chosen.root, _folder(path))
    noted = chosen.to_dict() | {"root": root.replace(os.sep, "/")}
    write_json(path, {"format": FORMAT, "version": VERSION, **derived, **noted}, replace=False)


_SHAPE = {
    **dict.fromkeys(("root", "labelled_by"), str),
    **dict.fromkeys(("per_class", "group_cap", "seed"), int),
    "labels": [str],
    "images": [{**dict.fromkeys(("path", "label", "group", "sha256"), str), "box?": [float]}],
    "model?": {"name": str, "file": str, "sha256": str},
    "layout?": str,
    "preprocessing?": dict,
}


def read_calibration_set(path: str | os.PathLike[str]) -> CalibrationSet:
    """Reads what `write_calibration_set` wrote; raises EdgefelError for another or an edited file."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise EdgefelError(
            f"{path}: is not a calibration set; make one with: edgefel calibrate --data DATA -o {path}"
        )
    if data.get("version") != VERSION:
        raise EdgefelError(
            f"{path}: version {data.get('version')}, this edgefel reads {VERSION}; make it again"
        )
    try:
        check_shape(data, _SHAPE, str(path))
    except EdgefelError as error:
        raise EdgefelError(f"{error}; make it again") from None
    try:
        plain = ("root", "per_class", "group_cap", "seed", "labelled_by", "preprocessing", "layout")
        values: dict[str, Any] = {name: data.get(name) for name in plain}
        chosen = CalibrationSet(
            # an absolute one stays what it is: files noted it so once
            **values | {"root": os.path.normpath(_folder(path) / data["root"])},
            labels=check_labels(data["labels"], os.fspath(path)),
            images=tuple(_image(image) for image in data["images"]),
            model=None if data.get("model") is None else LabellingModel(**data["model"]),
        )
    except EdgefelError as error:
        raise EdgefelError(f"{path}: {error}; make it again") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise EdgefelError(f"{path}: an entry is missing or unknown ({error}); make it again") from None
    unknown = {image.label for image in chosen.images} - set(chosen.labels)
    if unknown or not chosen.images:
        raise EdgefelError(f"{path}: lists {sorted(unknown) or 'no images'}; make it again")
    if data.get("key") != chosen.key():
        raise EdgefelError(f"{path}: was edited (its key does not match its contents); make it again")
    return chosen


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(path).resolve().parent


def _image(entry: dict[str, Any]) -> CalibrationImage:
    box = entry.get("box")
    if box is None:
        return CalibrationImage(**entry)
    x, y, width, height = map(int, box)
    return CalibrationImage(**{**entry, "box": (x, y, width, height)})
