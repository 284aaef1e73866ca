"""Aff-Wild2, as published for the expression challenges of the ABAW competitions: frames of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS, FileStore, ImageDataset, SampleTable
from edgefel.data.labels import AFF_WILD2, EXPRESSIONS_7, OTHER, canonical_label, to_canonical
from edgefel.data.readers.base import LazyNames
from edgefel.data.readers.search import find_folders, folders_within, list_names, read_lines
from edgefel.errors import EdgefelError

# names in the competitions of 2022 and 2023, of 2024 and 2025, and of 2020 and 2021
_CHALLENGES = ("EXPR_Classification_Challenge", "EXPR_Recognition_Challenge", "EXPR_Set")
_SPLIT_FOLDERS = {"train_set": "train", "training_set": "train", "validation_set": "val"}
# the second holds the videos that were added to the set later
_IMAGE_FOLDERS = ("cropped_aligned", "cropped_aligned_new_50_vids")
# "3rd ABAW Annotations/Third ABAW Annotations/EXPR_...", "batch1/cropped_aligned_images/cropped_aligned"
_DEPTH = 3
_NOT_ANNOTATED = -1
_SUFFIX = ".jpg"


class FrameNames(LazyNames):
    """File names of frames.

    folders: of the videos. video: int32 [N], index into folders. frame: int32 [N], from 1.
    """

    def __init__(self, folders: Sequence[str], video: NDArray[np.int32], frame: NDArray[np.int32]) -> None:
        self._folders, self._video, self._frame = folders, video, frame

    def __len__(self) -> int:
        return len(self._frame)

    def name(self, index: int) -> str:
        """The name at `index`, 0 to N - 1."""
        return f"{self._folders[self._video[index]]}/{self._frame[index]:05d}{_SUFFIX}"


class AffWild2:
    """`cropped_aligned/VIDEO/00001.jpg` and `EXPR_Classification_Challenge/Train_Set/VIDEO.txt`, Validation_Set too.

    A file of labels names the classes in its first line, followed by one number for each frame of the video: frame n,
    counted from 1, is line n + 1. Frames that are not annotated (-1) are left out, and so are frames without an image,
    in which the set's makers found no face. Where the whole folder of a video is missing, its frames are kept and
    counted as unreadable later. A video with two people has two files and two folders (`VIDEO_left`). Each is a group.

    The header of the file determines the order of the classes, and whether "other", an expression that is none of the
    seven, is one of them: it is in the editions since 2022, and not in those of 2020 and 2021.

    other: whether to keep these frames, as an eighth label after the canonical seven.

    Kollias and Zafeiriou, "Aff-Wild2: Extending the Aff-Wild Database for Affect Recognition" (arXiv 1811.07770);
    Kollias, "ABAW: Valence-Arousal Estimation, Expression Recognition, Action Unit Detection & Multi-Task Learning
    Challenges", CVPRW 2022 (arXiv 2202.10659); https://ibug.doc.ic.ac.uk/resources/aff-wild2/.
    """

    classes = AFF_WILD2

    def __init__(self, *, other: bool = True) -> None:
        self.other = other
        self.name = "aff-wild2" if other else "aff-wild2-7"
        kept = "7 expressions and other" if other else "7 expressions"
        self.title = f"Aff-Wild2: frames of videos, {kept} (Kollias and Zafeiriou, 2018; ABAW)"

    def recognizes(self, root: Path) -> bool:
        """Whether a folder of an expression challenge has folders of splits."""
        return any(_split_folders(folder) for folder in find_folders(root, _CHALLENGES, _DEPTH))

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError without labels or images, and for a header, number or class that is unknown."""
        videos = [_read_labels(path, split, self.other) for path, split in _label_files(root)]
        homes = find_folders(root, _IMAGE_FOLDERS, _DEPTH)
        if not homes:
            raise EdgefelError(
                f"{root}: no folder {_IMAGE_FOLDERS[0]}; unpack the cropped and aligned images of Aff-Wild2 into it"
            )
        # of a video in both folders, the images are those of the first
        folders = {name: home / name for home in reversed(homes) for name in list_names(home)}
        names: list[str] = []
        frames: list[NDArray[np.int32]] = []
        labels: list[NDArray[np.int16]] = []
        for video in videos:
            folder = folders.get(video.name, homes[0] / video.name)
            names.append(folder.relative_to(root).as_posix())
            keep = video.label >= 0
            if video.name in folders:
                keep &= _has_image(folder, len(video.label))
            chosen = np.flatnonzero(keep)
            frames.append((chosen + 1).astype(np.int32))
            labels.append(video.label[chosen])
        counts = [len(chosen) for chosen in frames]
        if not any(video.name in folders for video in videos) or not sum(counts):
            raise EdgefelError(
                f"{homes[0]}: no image of an annotated frame, such as {videos[0].name}/00001{_SUFFIX}; unpack the "
                "cropped and aligned images of Aff-Wild2 into it"
            )
        group = np.repeat(np.arange(len(videos), dtype=np.int32), counts)
        codes = np.array([1 + SPLITS.index(video.split) for video in videos], np.int8)
        store = FileStore(root, FrameNames(names, group, np.concatenate(frames)))
        groups, splits = [video.name for video in videos], np.repeat(codes, counts)
        table = SampleTable(store, np.concatenate(labels), group, groups, splits)
        has_other = any(video.has_other for video in videos)
        return ImageDataset(root, (*EXPRESSIONS_7, OTHER) if has_other else EXPRESSIONS_7, table)


@dataclass(frozen=True)
class _Video:
    """The labels of a video: label int16 [frames] into the seven and other, -1 where not annotated or left out."""

    name: str
    split: str
    label: NDArray[np.int16]
    has_other: bool


def _split_folders(challenge: Path) -> list[tuple[Path, str]]:
    """The folders of labels and their splits, train first."""
    folders = [(folder, _SPLIT_FOLDERS.get(folder.name.lower())) for folder in folders_within(challenge, 1)]
    known = [(folder, split) for folder, split in folders if split is not None]
    return sorted(known, key=lambda found: SPLITS.index(found[1]))


def _label_files(root: Path) -> list[tuple[Path, str]]:
    """Every file of labels, and its split."""
    challenges = [folder for folder in find_folders(root, _CHALLENGES, _DEPTH) if _split_folders(folder)]
    if not challenges:
        raise EdgefelError(
            f"{root}: no folder {_CHALLENGES[0]} with Train_Set and Validation_Set; unpack the annotations of the "
            "expression challenge into it"
        )
    if len(challenges) > 1:
        raise EdgefelError(
            f"{root}: labels of several editions, {challenges[0]} and {challenges[1]}; keep one of them"
        )
    files = [
        (folder / name, split)
        for folder, split in _split_folders(challenges[0])
        for name in list_names(folder, ".txt")
    ]
    if not files:
        raise EdgefelError(f"{challenges[0]}: no files of labels in its splits; unpack the annotations again")
    seen: dict[str, Path] = {}
    for path, _ in files:
        if (other := seen.setdefault(path.stem, path)) != path:
            raise EdgefelError(f"{path}: the same video as {other}; keep it in one split")
    return files


def _read_labels(path: Path, split: str, other: bool) -> _Video:
    lines = read_lines(path)
    classes = _header(lines[0] if lines else "", path)
    numbers = np.empty(len(lines) - 1, np.int64)
    for row, line in enumerate(lines[1:]):
        try:
            numbers[row] = int(line)
        except (ValueError, OverflowError):
            raise EdgefelError(
                f"{path} line {row + 2}: {line.strip()[:40]!r} is not the number of a class; unpack the annotations "
                "again"
            ) from None
    rows = np.flatnonzero(numbers != _NOT_ANNOTATED)
    label = np.full(len(numbers), _NOT_ANNOTATED, np.int16)
    label[rows] = to_canonical(
        numbers[rows], classes, (*EXPRESSIONS_7, OTHER), lambda row: f"{path} line {rows[row] + 2}"
    )
    if not other:
        label[label == len(EXPRESSIONS_7)] = _NOT_ANNOTATED
    return _Video(path.stem, split, label, other and OTHER in classes)


def _header(line: str, path: Path) -> tuple[str, ...]:
    """The classes of a file in the order of its numbers, by canonical names."""
    fields = [field.strip() for field in line.split(",")]
    names = tuple(OTHER if field.lower() == OTHER else canonical_label(field) or "" for field in fields)
    if sorted(names) not in (sorted(EXPRESSIONS_7), sorted((*EXPRESSIONS_7, OTHER))):
        raise EdgefelError(
            f"{path} line 1: {line.strip()[:80]!r} does not name the seven expressions, or these and other; "
            "unpack the annotations again"
        )
    return names


def _has_image(folder: Path, count: int) -> NDArray[np.bool_]:
    """Whether each of `count` frames has an image, by one listing of the folder."""
    # frame numbers are padded to five digits
    stems = [name[: -len(_SUFFIX)] for name in list_names(folder) if name.endswith(_SUFFIX)]
    numbers = [int(stem) for stem in stems if len(stem) >= 5 and stem.isdecimal()]
    present = np.zeros(count + 1, bool)
    listed = np.array(numbers, np.int64)
    present[listed[listed <= count]] = True
    return present[1:]
