"""Where the features of a face are: identity at rest, moved by action units.

Face units: the pupils are 1 apart, the origin lies midway between them, x runs to the right of the picture
and y down. Side 0 is the left of the picture, side 1 the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefel.data.synthetic.curves import Points, smooth
from edgefel.data.synthetic.expressions import Expression
from edgefel.data.synthetic.identity import Identity

SIGN = (-1.0, 1.0)
_EYE_T = np.linspace(-1, 1, 13)
_LIP_T = np.linspace(-1, 1, 21)
_BROW_X = np.array([0.16, 0.32, 0.51, 0.70, 0.88])


@dataclass(frozen=True)
class Eye:
    """upper, lower [13, 2]: lid edges from the inner to the outer corner; fold [13, 2]: crease above;
    pupil: centre of the iris; opening: distance between the lids."""

    upper: Points
    lower: Points
    fold: Points
    pupil: tuple[float, float]
    opening: float


@dataclass(frozen=True)
class Mouth:
    """Four edges [21, 2] from the left corner to the right, and how far the jaw has dropped."""

    top: Points
    inner_top: Points
    inner_bottom: Points
    bottom: Points
    gap: float
    jaw: float


@dataclass(frozen=True)
class Face:
    """Everything that is drawn. `brows` and `eyes` are by side; `sides` are the intensities by side."""

    identity: Identity
    outline: Points
    brows: tuple[Points, Points]
    eyes: tuple[Eye, Eye]
    mouth: Mouth
    nose_y: float
    nose_up: tuple[float, float]
    sides: tuple[dict[int, float], dict[int, float]]

    def both(self, unit: int) -> float:
        """Mean intensity of the two sides."""
        return 0.5 * (self.sides[0][unit] + self.sides[1][unit])


@dataclass(frozen=True)
class Rest:
    """What varies between pictures of a subject and is no expression: gaze (x, y), how open the lids are."""

    gaze: tuple[float, float] = (0.0, 0.0)
    lids: float = 1.0


def build_face(identity: Identity, expression: Expression, rest: Rest) -> Face:
    """The geometry of one face."""
    sides = (expression.side(0), expression.side(1))
    mouth = _mouth(identity, sides)
    return Face(
        identity=identity,
        outline=_outline(identity, mouth.jaw),
        brows=(_brow(identity, sides[0], 0), _brow(identity, sides[1], 1)),
        eyes=(_eye(identity, sides[0], 0, rest), _eye(identity, sides[1], 1, rest)),
        mouth=mouth,
        nose_y=identity.nose_length,
        nose_up=(0.075 * sides[0][9], 0.075 * sides[1][9]),
        sides=sides,
    )


def _outline(identity: Identity, jaw: float) -> Points:
    width, jaw_width = identity.face_width, identity.jaw_width
    chin, chin_width = identity.chin + jaw, identity.chin_width
    right = [
        (0.50, -1.78),
        (0.92 * width, -1.30),
        (1.01 * width, -0.75),
        (1.01 * width, -0.20),
        (0.99 * width, 0.30),
        (0.93 * width, 0.72 + 0.15 * jaw),
        (0.5 * (jaw_width + 0.82), 1.08 + 0.5 * jaw),
        (0.5 * (jaw_width * 0.86 + chin_width), 0.5 * (1.22 + chin) + 0.35 * jaw),
        (chin_width * 0.62, chin - 0.035),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    return smooth([(0.0, -1.85), *right, (0.0, chin), *left], 4, closed=True)


def _brow(identity: Identity, au: dict[int, float], side: int) -> Points:
    """Centre line [17, 2] from the inner to the outer end."""
    arch = identity.brow_arch
    y = identity.brow_height + np.array([0.5 * arch, -0.25 * arch, -0.8 * arch, -0.75 * arch, 0.35 * arch])
    y += identity.brow_tilt * np.linspace(1, -1, 5) + identity.asymmetry * SIGN[side]
    y -= 0.19 * au[1] * np.array([1, 0.8, 0.35, 0.05, -0.05])
    y -= 0.18 * au[2] * np.array([0.05, 0.3, 0.8, 1, 0.85])
    frown = au[4] * (1 - 0.55 * au[1])
    y += 0.135 * frown * np.array([1, 0.9, 0.5, 0.15, 0.0]) + 0.05 * au[9] * np.array([1, 0.7, 0.3, 0, 0])
    y += 0.02 * au[6] * np.array([0, 0, 0.3, 1, 1])
    x = _BROW_X - 0.075 * au[4] * np.array([1, 0.75, 0.4, 0.2, 0.1])
    return smooth(np.stack([SIGN[side] * x, y], 1), 4)


def _eye(identity: Identity, au: dict[int, float], side: int, rest: Rest) -> Eye:
    t = _EYE_T
    upper = (0.098 * identity.eye_open) * rest.lids
    upper += 0.075 * au[5] - 0.03 * au[7] - 0.014 * au[6] - 0.012 * au[4] - 0.02 * au[9] - 0.012 * au[12]
    lower = 0.064 * identity.eye_open
    lower += 0.012 * au[5] - 0.036 * au[7] - 0.045 * au[6] - 0.018 * au[9] - 0.008 * au[12]
    upper = max(upper, 0.012)
    lower = max(lower, 0.008)
    # the upper lid peaks inwards of the middle, the lower lid sags outwards; sorrow lifts the inner third
    sorrow = au[1] * (1 - au[2]) * (0.3 + 0.7 * au[4])
    upper_y = -upper * (1 - np.abs(t) ** 2.3) * (1 - 0.14 * t) + 0.022 * sorrow * t * (1 - t**2) * 2
    lower_y = lower * (1 - np.abs(t) ** 2.6) * (1 + 0.16 * t)
    x = SIGN[side] * (0.5 + identity.eye_width * t)
    base = 0.018 * np.clip(-t, 0, 1) ** 4 - identity.eye_tilt * t  # the tear duct dips
    fold_gap = identity.eye_fold * (1 - 0.5 * au[4]) * np.clip(1.02 - np.abs(t) ** 4, 0, 1)
    fold_y = upper_y - fold_gap - 0.012 + 0.02 * sorrow * t
    pupil = (SIGN[side] * 0.5 + 0.06 * rest.gaze[0], 0.045 * rest.gaze[1] - 0.012)
    return Eye(
        upper=np.stack([x, base + upper_y], 1),
        lower=np.stack([x, base + lower_y], 1),
        fold=np.stack([x, base + fold_y], 1),
        pupil=pupil,
        opening=upper + lower,
    )


def _mouth(identity: Identity, sides: tuple[dict[int, float], dict[int, float]]) -> Mouth:
    t = _LIP_T
    right = np.clip(0.5 + 0.5 * t, 0, 1)  # how much of a point belongs to the right side
    au = {unit: (1 - right) * sides[0][unit] + right * sides[1][unit] for unit in sides[0]}
    mid = {unit: 0.5 * (sides[0][unit] + sides[1][unit]) for unit in sides[0]}
    bend = np.abs(t) ** 1.7
    half = (
        identity.mouth_width
        + 0.125 * au[12]
        + 0.13 * au[20]
        + 0.035 * au[14]
        - 0.05 * au[23]
        - 0.045 * au[17]
    )
    half -= 0.085 * mid[26] * (1 - mid[20])
    y = identity.mouth_y - 0.035 * mid[17] + 0.03 * mid[26] + identity.rest_corner * bend
    y += bend * (
        -0.15 * au[12] + 0.15 * au[15] + 0.045 * au[20] - 0.03 * au[14] + 0.035 * au[17] + 0.02 * au[16]
    )
    y += 0.02 * mid[12] - 0.03 * mid[15]
    lift = 0.045 * au[9] + 0.012 * au[12]
    jaw = 0.24 * mid[26]
    parted = 0.085 * mid[25] * (1 + 0.35 * mid[12]) + 0.05 * mid[16] + 0.36 * mid[26]
    gap = max(parted - 0.03 * mid[17], 0.0)
    thin = (1 - 0.5 * au[23]) * (1 - 0.22 * au[12]) * (1 - 0.2 * au[20])
    upper = identity.upper_lip * thin * (1 - 0.2 * mid[26])
    lower = identity.lower_lip * thin * (1 + 0.15 * au[17] + 0.25 * au[16]) * (1 - 0.15 * mid[26])
    arc = np.clip(1 - t**2, 0, 1)
    bow = 1 - 0.2 * np.exp(-((t / 0.13) ** 2)) + 0.1 * np.exp(-(((np.abs(t) - 0.3) / 0.2) ** 2))
    x = half * t
    inner_top = y - lift * arc**0.5 - 0.22 * gap * arc**0.7 + 0.010 * np.exp(-((t / 0.2) ** 2)) * (gap < 0.02)
    inner_bottom = y - lift * arc**0.5 * 0.3 + 0.78 * gap * arc**0.62
    inner_bottom = np.maximum(inner_bottom + (gap < 0.005) * lift * -0.7 * arc**0.5, inner_top)
    top = inner_top - upper * arc**0.72 * bow
    bottom = inner_bottom + lower * arc**0.6
    return Mouth(
        top=np.stack([x, top], 1),
        inner_top=np.stack([x, inner_top], 1),
        inner_bottom=np.stack([x, inner_bottom], 1),
        bottom=np.stack([x, bottom], 1),
        gap=gap,
        jaw=jaw,
    )
