"""Where the eyes of level faces lie in the images of a data set, and how large the images are, so that a device can
show faces as in training.

This package may not import the runtime, which finds faces; a detector is passed as a function. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset
from edgefel.data.images import UnreadableImageError
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.text import counted

Image = NDArray[np.uint8]
Point = tuple[float, float]

# Limits of what can be a crop of a face: (least, most), as shares of its side.
DOWN, APART = (0.1, 0.8), (0.1, 0.7)
# Images whose faces scatter more than this do not frame faces alike: photographs, or faces of many sizes.
MOST_SPREAD = 0.12
SAMPLE = 256  # images that are looked at
LEAST_FACES = 8
# Faces are measured at this side, in a grey margin: detectors need surroundings, and find 97 % (YuNet) of FER+'s faces
# in a grey margin, 87 % in a mirrored one; the medians are the same.
_SIDE, _MARGIN, _GREY = 192, 64, 128
_MOST_ROLL = 10.0  # degrees; eyes of level faces are compared
_SIGMA = 1.4826  # standard deviations in a median absolute deviation


class FoundFace(Protocol):
    """A face as a detector finds it (the runtime's `FaceBox`): `eyes` are (x, y) of both in pixels, or None."""

    @property
    def eyes(self) -> tuple[Point, Point] | None: ...
    @property
    def centre(self) -> Point: ...


FindFaces = Callable[[Image], Sequence[FoundFace]]


@dataclass(frozen=True)
class Framing:
    """Where the eyes of a level face lie in a training image that is resized to a square; shares of its side.

    eyes_down: height of the middle between the eyes, from the top. eyes_apart: from eye to eye. Across, that middle is
    in the image's. down_spread, apart_spread: standard deviations from face to face. faces: number of measured ones.
    Raises EdgefelError for values that no crop of faces has.
    """

    eyes_down: float
    eyes_apart: float
    down_spread: float
    apart_spread: float
    faces: int

    def __post_init__(self) -> None:
        limits = {"eyes_down": DOWN, "eyes_apart": APART, "down_spread": (0, 1), "apart_spread": (0, 1)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, float)) and least <= value <= most):
                raise EdgefelError(
                    f"framing: {name} is {value!r}; it must be a number from {least} to {most}"
                )
        if type(self.faces) is not int or self.faces < 1:
            raise EdgefelError(f"framing: faces is {self.faces!r}; it must be a whole number of at least 1")

    @property
    def summary(self) -> str:
        """One line for reports."""
        return (
            f"eyes at {self.eyes_down:.3f} of the height (spread {self.down_spread:.3f}), {self.eyes_apart:.3f} of the "
            f"width apart (spread {self.apart_spread:.3f}), by {counted(self.faces, 'face')}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Any) -> Framing:
        """Reads `to_dict`'s values; raises EdgefelError for missing, unknown or impossible ones."""
        if not isinstance(values, Mapping):
            raise EdgefelError(f"framing: expected an object with fields, got {values!r}")
        known = [field.name for field in fields(cls)]
        if wrong := sorted(map(str, set(known) ^ set(values))):
            raise EdgefelError(f"framing: missing or unknown {', '.join(wrong)}; it has {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True)
class FramingFound:
    """A measurement: the framing, or None with the `reason`. images: looked at; faces: level ones with both eyes."""

    framing: Framing | None
    images: int
    faces: int
    reason: str = ""

    @property
    def summary(self) -> str:
        """One line for reports."""
        seen = f"{counted(self.faces, 'level face')} with both eyes in {counted(self.images, 'image')}"
        return self.framing.summary if self.framing is not None else f"not known ({self.reason}: {seen})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for reports."""
        framing = self.framing and self.framing.to_dict()
        return {"framing": framing, "images": self.images, "faces": self.faces, "summary": self.summary}


def measure_framing(
    dataset: ImageDataset, find: FindFaces, *, most: int = SAMPLE, seed: int = 0
) -> FramingFound:
    """Measures `most` images of the split train, or of all where there is none; unreadable ones are left out.

    find: uint8 RGB [H, W, 3] -> faces. Places are medians, and spreads 1.4826 times the median absolute deviation, so
    that a few wrong detections change nothing.
    """
    eyes, images = [], 0
    for image in _sample(dataset, most, seed):
        images += 1
        if (found := _level_eyes(image, find)) is not None:
            eyes.append(found)
    if len(eyes) < LEAST_FACES:
        return FramingFound(None, images, len(eyes), f"it takes at least {LEAST_FACES}")
    values = np.array(eyes)
    (down, apart), spread = np.median(values, axis=0).tolist(), _spread(values)
    if max(spread) > MOST_SPREAD:
        reason = f"faces are not framed alike, spread {max(spread):.2f} of the side"
        return FramingFound(None, images, len(eyes), reason)
    if not (DOWN[0] <= down <= DOWN[1] and APART[0] <= apart <= APART[1]):
        return FramingFound(None, images, len(eyes), f"eyes at {down:.2f}, {apart:.2f} apart are no crop's")
    numbers = [round(value, 4) for value in (down, apart, *spread)]
    framing = Framing(numbers[0], numbers[1], numbers[2], numbers[3], len(eyes))
    return FramingFound(framing, images, len(eyes))


def for_images_like(preprocessing: Preprocessing, dataset: ImageDataset) -> Preprocessing:
    """The preprocessing for training on `dataset`: a device shows faces in no more detail and colour than these have.

    Of `SAMPLE` images, `detail` is the smaller side that 95 % do not exceed, if it is below what they are resized to:
    hardly an image loses anything. `colour` is grey if all of them are.
    """
    sides, grey = [], True
    for image in _sample(dataset, SAMPLE, seed=0):
        sides.append(min(image.shape[:2]))
        grey = grey and bool((image == image[:, :, :1]).all())
    if not sides:
        return preprocessing
    side = int(np.quantile(sides, 0.95, method="lower"))
    detail = side if side < preprocessing.resize else None
    return replace(preprocessing, detail=detail, colour="grey" if grey else "RGB")


def _sample(dataset: ImageDataset, most: int, seed: int) -> Iterator[Image]:
    """Readable images of the split train, or of all where there is none."""
    indices = dataset.in_split("train")
    if not indices.size:
        indices = np.arange(len(dataset))
    for index in np.sort(np.random.default_rng(seed).permutation(indices)[:most]).tolist():
        try:
            image = dataset.load(index)
        except UnreadableImageError:
            continue
        yield image


def _spread(values: NDArray[np.float64]) -> list[float]:
    deviations = np.abs(values - np.median(values, axis=0))
    return [float(value) for value in _SIGMA * np.median(deviations, axis=0)]


def _level_eyes(image: Image, find: FindFaces) -> Point | None:
    """(down, apart) of the eyes of the face in the middle, as shares of the image's side; None unless it is level."""
    side, margin = _SIDE, _MARGIN
    face = cv2.resize(
        image, (side, side), interpolation=cv2.INTER_AREA if min(image.shape[:2]) > side else cv2.INTER_CUBIC
    )
    canvas = np.full((side + 2 * margin, side + 2 * margin, 3), _GREY, np.uint8)
    canvas[margin : margin + side, margin : margin + side] = face
    middle = (margin + side / 2, margin + side / 2)
    faces = [one for one in find(canvas) if math.dist(one.centre, middle) <= side / 4]
    nearest = min(faces, key=lambda one: math.dist(one.centre, middle), default=None)
    if nearest is None or nearest.eyes is None:
        return None
    (x0, y0), (x1, y1) = nearest.eyes
    if abs(math.degrees(math.atan2(y1 - y0, x1 - x0))) > _MOST_ROLL:
        return None
    return ((y0 + y1 + 1) / 2 - margin) / side, math.hypot(x1 - x0, y1 - y0) / side
