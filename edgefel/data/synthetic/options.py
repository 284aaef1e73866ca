"""Options of a synthetic face set, checked when they are made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from edgefel.data.labels import expression_labels
from edgefel.errors import EdgefelError

BIAS_ATTRIBUTES = ("glasses", "skin", "hair")
# option, least, most
_WHOLE = (("count", 1, 10**8), ("size", 32, 1024), ("subjects", 4, 10**6), ("seed", 0, 2**63 - 1))
_REAL = (
    ("label_noise", 0.0, 1.0),
    ("group_bias", 0.0, 1.0),
    ("blend", 0.0, 1.0),
    ("dropout", 0.0, 1.0),
    ("long_tail", 1.0, 1e6),
    ("pose", 0.0, 1.5),
    ("nuisance", 0.0, 1.5),
)


@dataclass(frozen=True)
class FaceOptions:
    """What a `SyntheticFaces` set looks like.

    count: images in the set. size: side of an image in pixels. classes: 7 or 8 expressions.
    subjects: different people; they are dealt out to train, val and test as 70, 15 and 15 %.
    long_tail: images of the most frequent class over images of the rarest; 1 is balanced.
    label_noise: share of faces whose label is replaced by another class.
    group_bias: share of faces whose subject is chosen by `bias_attribute` to fit the class, so that the
    attribute predicts the class; 0 draws subjects at random.
    blend: share of faces that mix two expressions. intensity: range of expression strengths, in (0, 1].
    dropout: chance that an action unit of the expression stays away.
    pose, nuisance: how far heads turn, and how strongly light, blur, noise and occluders vary; 1 is usual,
    0 is none.
    """

    count: int = 2000
    size: int = 224
    classes: int = 7
    subjects: int = 100
    long_tail: float = 1.0
    label_noise: float = 0.0
    group_bias: float = 0.0
    bias_attribute: str = "glasses"
    blend: float = 0.2
    intensity: tuple[float, float] = (0.45, 1.0)
    dropout: float = 0.1
    pose: float = 1.0
    nuisance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        expression_labels(self.classes)
        for name, low, high in _WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise EdgefelError(
                    f"synthetic faces: {name}={value!r}; give a whole number from {low} to {high}"
                )
        for name, least, most in _REAL:
            _check(name, getattr(self, name), least, most)
        if self.bias_attribute not in BIAS_ATTRIBUTES:
            known = ", ".join(BIAS_ATTRIBUTES)
            raise EdgefelError(
                f"synthetic faces: bias_attribute={self.bias_attribute!r}; choose one of {known}"
            )
        if len(self.intensity) != 2:
            raise EdgefelError(
                f"synthetic faces: intensity={self.intensity!r}; give two numbers, low and high"
            )
        for strength in self.intensity:
            _check("intensity", strength, 0.05, 1.0)
        if self.intensity[0] > self.intensity[1]:
            raise EdgefelError(
                f"synthetic faces: intensity={self.intensity}; the first must not exceed the second"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in canonical order."""
        return expression_labels(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def _check(name: str, value: Any, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not low <= value <= high:
        raise EdgefelError(f"synthetic faces: {name}={value!r}; give a number from {low:g} to {high:g}")
