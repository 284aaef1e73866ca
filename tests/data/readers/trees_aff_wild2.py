"""Writes Aff-Wild2 trees, as the ABAW competitions publish them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

HEADER_8 = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
# the competitions of 2020 and 2021
HEADER_7 = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
AFF_WILD2_CLASSES = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")


@dataclass(frozen=True)
class Video:
    """A video: the class of each frame by name, "" where not annotated, and the frames (from 1) without an image."""

    name: str
    split: str
    frames: Sequence[str]
    without_face: frozenset[int] = field(default_factory=frozenset)

    def read(self, *, other: bool = True) -> list[tuple[str, str]]:
        """What a reader finds: file name of the image and class, in order."""
        return [
            (f"{number:05d}.jpg", name)
            for number, name in enumerate(self.frames, start=1)
            if name and number not in self.without_face and (other or name != "other")
        ]


VIDEOS = (
    Video("1-30-1280x720", "train", (*AFF_WILD2_CLASSES, "", "fear", "fear"), frozenset({10})),
    Video("video59_left", "train", ("", "happiness")),
    Video("video59_right", "val", ("sadness", "other", "anger"), frozenset({1})),
)


def write_aff_wild2(
    root: Path,
    videos: Sequence[Video] = VIDEOS,
    *,
    header: str = HEADER_8,
    labels: str = "EXPR_Classification_Challenge",
    train: str = "Train_Set",
    images: str = "cropped_aligned",
) -> None:
    """The annotations and the images; a colour for each class, so that an image can be told from another's."""
    classes = [name.lower() for name in header.split(",")]
    for video in videos:
        path = root / labels / (train if video.split == "train" else "Validation_Set") / f"{video.name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = [classes.index(name) if name else -1 for name in video.frames]
        path.write_text("\n".join([header, *map(str, numbers)]) + "\n", encoding="utf-8")
        folder = root / images / video.name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, len(video.frames) + 1):
            if number not in video.without_face:
                image = np.full((8, 8, 3), 10 * number, np.uint8)
                cv2.imwrite(str(folder / f"{number:05d}.jpg"), image)
