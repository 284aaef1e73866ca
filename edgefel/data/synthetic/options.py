"""Options of synthetic faces and videos, checked when they are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from edgefel.data.labels import expression_labels
from edgefel.errors import EdgefelError
from edgefel.text import counted

BIAS_ATTRIBUTES = ("glasses", "skin", "hair")
# With this seed OpenCV's frontal cascade finds all three faces of the default video in every frame.
DEFAULT_VIDEO_SEED = 3
# Seconds that each expression holds at least, so that a change can be told from noise.
LEAST_HOLD = 1.5
LEAST_SIDE = 32  # of a face in a video, pixels
# The largest side of a face as a share of its cell, and of the frame's shorter side; the smallest as one of it.
_CELL_SHARE, _FRAME_SHARE, _SIZE_RANGE = 0.68, 0.42, 0.8


def _within(default: float, least: float, most: float) -> Any:
    """An option with its bounds; a whole number where these are."""
    return field(default=default, metadata={"bounds": (least, most)})


@dataclass(frozen=True)
class FaceOptions:
    """Options of a `SyntheticFaces` set. Raises EdgefelError for values out of range.

    count: images in the set. size: side of an image in pixels. classes: 7 or 8 expressions.
    subjects: different people, dealt out to train, val and test as 70, 15 and 15 %.
    long_tail: images of the most frequent class over images of the rarest; 1 is balanced.
    label_noise: share of faces whose label is replaced by another class.
    group_bias: share of faces whose subject is chosen by `bias_attribute` to fit the class, so that the
    attribute predicts the class; 0 draws subjects at random.
    blend: share of faces that mix two expressions. intensity: range of expression strengths, in (0, 1].
    dropout: chance that an action unit of the expression is absent.
    pose, nuisance: how far heads turn, and how strongly light, blur, noise and occluders vary; 1 is usual,
    0 is none.
    """

    count: int = _within(2000, 1, 10**8)
    size: int = _within(224, 32, 1024)
    classes: int = 7
    subjects: int = _within(100, 4, 10**6)
    long_tail: float = _within(1.0, 1.0, 1e6)
    label_noise: float = _within(0.0, 0.0, 1.0)
    group_bias: float = _within(0.0, 0.0, 1.0)
    bias_attribute: str = "glasses"
    blend: float = _within(0.2, 0.0, 1.0)
    intensity: tuple[float, float] = (0.45, 1.0)
    dropout: float = _within(0.1, 0.0, 1.0)
    pose: float = _within(1.0, 0.0, 1.5)
    nuisance: float = _within(1.0, 0.0, 1.5)
    seed: int = _within(0, 0, 2**63 - 1)

    def __post_init__(self) -> None:
        what = "synthetic faces"
        expression_labels(self.classes)
        _check_all(what, self)
        if self.bias_attribute not in BIAS_ATTRIBUTES:
            known = ", ".join(BIAS_ATTRIBUTES)
            raise EdgefelError(f"{what}: bias_attribute={self.bias_attribute!r}; choose one of {known}")
        if len(self.intensity) != 2:
            raise EdgefelError(f"{what}: intensity={self.intensity!r}; give two numbers, low and high")
        for strength in self.intensity:
            _check(what, "intensity", strength, 0.05, 1.0)
        if self.intensity[0] > self.intensity[1]:
            raise EdgefelError(f"{what}: intensity={self.intensity}; the first must not exceed the second")

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in canonical order."""
        return expression_labels(self.classes)


@dataclass(frozen=True)
class VideoOptions:
    """Options of a `SyntheticVideo`. Raises EdgefelError for values that make no video.

    seconds, fps, size (width, height; even): of the video. faces: people in it, each for the whole time in a
    part of the frame of its own. changes: how often each changes expression. labels: class names of the
    expressions to draw from; without them EXPRESSIONS_7. transition: seconds from one expression to the next.
    pose: how far heads turn; 1 is up to 8 degrees, 0 is none. seed: the rest.
    """

    seconds: float = _within(60.0, 0.1, 36000.0)
    fps: float = _within(30.0, 1.0, 240.0)
    size: tuple[int, int] = (640, 480)
    faces: int = _within(3, 0, 64)
    changes: int = _within(2, 0, 1000)
    labels: tuple[str, ...] = ()
    transition: float = _within(0.2, 0.0, 1.0)
    pose: float = _within(1.0, 0.0, 1.5)
    seed: int = _within(DEFAULT_VIDEO_SEED, 0, 2**63 - 1)

    def __post_init__(self) -> None:
        what = "synthetic video"
        _check_all(what, self)
        if len(self.size) != 2:
            raise EdgefelError(f"{what}: size={self.size!r}; give a width and a height")
        for side in self.size:
            _check(what, "size", side, 64, 8192)
            if side % 2:
                raise EdgefelError(f"{what}: size={self.size}; sides of an MP4 frame must be even")
        known = expression_labels(8)
        if unknown := [label for label in self.labels if label not in known]:
            raise EdgefelError(f"{what}: unknown expression {unknown[0]}; known: {', '.join(known)}")
        if self.changes and len(set(self.expressions)) < 2:
            raise EdgefelError(f"{what}: one expression alone cannot change; give two or more")
        if self.faces and self.changes and self.seconds / (self.changes + 1) < LEAST_HOLD + self.transition:
            raise EdgefelError(
                f"{what}: {counted(self.changes, 'change')} in {self.seconds:g} s leave less than "
                f"{LEAST_HOLD:g} s for an expression; give more seconds or fewer changes"
            )
        if self.faces and self.sides[0] < LEAST_SIDE:
            raise EdgefelError(
                f"{what}: {counted(self.faces, 'face')} in {self.size[0]}x{self.size[1]} would be "
                f"smaller than {LEAST_SIDE} pixels; give fewer faces or a larger size"
            )

    @property
    def expressions(self) -> tuple[str, ...]:
        """Class names to draw from."""
        return self.labels or expression_labels(7)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, round(self.seconds * self.fps))

    @property
    def cells(self) -> tuple[int, int]:
        """(columns, rows) of the grid with the largest cells that holds a face in each; (1, 1) without faces."""
        grids = [(columns, -(-self.faces // columns)) for columns in range(1, self.faces + 1)]
        return max(
            grids,
            key=lambda grid: (min(self.size[0] / grid[0], self.size[1] / grid[1]), -grid[0]),
            default=(1, 1),
        )

    @property
    def sides(self) -> tuple[float, float]:
        """Smallest and largest side of a face in pixels."""
        columns, rows = self.cells
        cell = min(self.size[0] / columns, self.size[1] / rows)
        most = min(_CELL_SHARE * cell, _FRAME_SHARE * min(self.size))
        return _SIZE_RANGE * most, most


def _check_all(what: str, options: FaceOptions | VideoOptions) -> None:
    for option in dataclasses.fields(options):
        if "bounds" in option.metadata:
            _check(what, option.name, getattr(options, option.name), *option.metadata["bounds"])


def _check(what: str, name: str, value: Any, least: float, most: float) -> None:
    whole = isinstance(least, int)
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    # NaN compares false
    if not number or not least <= value <= most:
        bounds = f"a whole number from {least} to {most}" if whole else f"a number from {least:g} to {most:g}"
        raise EdgefelError(f"{what}: {name}={value!r}; give {bounds}")
