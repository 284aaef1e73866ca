"""What face detectors share: shrinking an image, boxes as squares, and the search near known faces. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox

LONGEST_SIDE = 960
# Near a known face: the patch that is searched, and the sizes of face in it, as shares of the face's side.
NEAR_PATCH = 1.6
NEAR_SIZES = (0.7, 1.4)


def search_patches(
    search: Callable[[Image, FaceBox], FaceBox | None], image: Image, boxes: Sequence[FaceBox]
) -> list[FaceBox]:
    """What `search` finds of each known face in the surroundings of its box; both boxes in pixels of the patch."""
    found = []
    for known in boxes:
        half = NEAR_PATCH * known.side / 2
        x, y = (max(0, round(centre - half)) for centre in known.centre)
        right, bottom = (max(0, round(centre + half)) for centre in known.centre)
        patch = image[y:bottom, x:right]
        if patch.size and (best := search(patch, known.moved(-x, -y))) is not None:
            found.append(best.moved(x, y))
    return largest_first(found)


def nearest(found: Sequence[FaceBox], known: FaceBox) -> FaceBox | None:
    """The box that can be the known face a moment later, the nearest of several."""
    least, most = (share * known.side for share in NEAR_SIZES)
    distances = {box: math.dist(box.centre, known.centre) for box in found if least <= box.side <= most}
    best = min(distances, key=distances.__getitem__, default=None)
    return best if best is not None and distances[best] <= known.side / 2 else None


def check_share(min_share: float) -> None:
    """Raises EdgefelError for a smallest face outside (0, 1]."""
    if not 0 < min_share <= 1:
        raise EdgefelError(
            f"smallest face {min_share:g}: give a share of the image's shorter side, above 0 and up to 1"
        )


def shrink(image: Image, longest: float = LONGEST_SIDE) -> tuple[Image, float]:
    """The image with its longer side at most `longest`, and its size as a share of the original's.

    More pixels only cost time: a face that is small after this is small in the image.
    """
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image, 1.0
    return scaled(image, factor), factor


def scaled(image: Image, factor: float) -> Image:
    """Shrunk by `factor`; a side that would become nothing is one pixel."""
    height, width = (round(factor * side) for side in image.shape[:2])
    # with a size, OpenCV takes its ratio, which is rounded, for the factor
    size = None if height and width else (max(1, width), max(1, height))
    small = cv2.resize(image, size, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def square(box: npt.NDArray[np.floating], shift: float, score: float) -> FaceBox:
    """A detector's box (x, y, width, height) -> a square of its larger side, moved down by `shift` of it."""
    x, y, width, height = (float(value) for value in box)
    larger = max(width, height)
    side = max(1, round(larger))
    centre_x, centre_y = x + width / 2, y + height / 2 + shift * larger
    return FaceBox(round(centre_x - side / 2), round(centre_y - side / 2), side, score)


def largest_first(boxes: list[FaceBox]) -> list[FaceBox]:
    """Sorted by size, without boxes whose centre lies in a larger one: the same face found twice."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: (-box.side, box.x, box.y)):
        x, y = box.centre
        if not any(0 <= x - other.x < other.side and 0 <= y - other.y < other.side for other in kept):
            kept.append(box)
    return kept
