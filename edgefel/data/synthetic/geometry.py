"""Where the features of a face are: identity at rest, moved by action units.

Face units: the pupils are 1 apart, the origin lies midway between them, x runs to the right of the image
and y down. Side 0 is the left of the image, side 1 the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgefel.data.synthetic.curves import Points, columns, smooth
from edgefel.data.synthetic.expressions import UNIT_ROW, UNITS, Expression
from edgefel.data.synthetic.identity import Identity

SIGN = (-1.0, 1.0)
_EYE_T = np.linspace(-1, 1, 13)
# shapes of the lids over _EYE_T: the upper lid peaks inwards of the middle, the lower sags outwards
_UPPER_LID = -(1 - np.abs(_EYE_T) ** 2.3) * (1 - 0.14 * _EYE_T)
_LOWER_LID = (1 - np.abs(_EYE_T) ** 2.6) * (1 + 0.16 * _EYE_T)
_SORROW = 0.044 * _EYE_T * (1 - _EYE_T**2)
_FOLD = np.clip(1.02 - _EYE_T**4, 0, 1)
_TEAR_DUCT = 0.018 * np.clip(-_EYE_T, 0, 1) ** 4
_BROW_X = np.array([0.16, 0.32, 0.51, 0.70, 0.88])
_BROW_TILT = np.linspace(1, -1, 5)
_BROW_ARCH = np.array([0.5, -0.25, -0.8, -0.75, 0.35])
# how far units 1, 2, 4, 9 and 6 move the five points of a brow up or down
_BROW_UNITS = (1, 2, 4, 9, 6)
_BROW_MOVES = np.array(
    [
        -0.19 * np.array([1, 0.8, 0.35, 0.05, -0.05]),
        -0.18 * np.array([0.05, 0.3, 0.8, 1, 0.85]),
        0.135 * np.array([1, 0.9, 0.5, 0.15, 0.0]),
        0.05 * np.array([1, 0.7, 0.3, 0, 0]),
        0.02 * np.array([0, 0, 0.3, 1, 1]),
    ]
)
_BROW_SQUEEZE = 0.075 * np.array([1, 0.75, 0.4, 0.2, 0.1])
_LIP_T = np.linspace(-1, 1, 21)
# how much each point of the mouth belongs to the left and the right side
_SHARE = np.stack([0.5 - 0.5 * _LIP_T, 0.5 + 0.5 * _LIP_T])
_BEND = np.abs(_LIP_T) ** 1.7
_ARC = np.clip(1 - _LIP_T**2, 0, 1)
_ARC_50, _ARC_60, _ARC_70 = _ARC**0.5, _ARC**0.6, _ARC**0.7
_BOW = 1 - 0.2 * np.exp(-((_LIP_T / 0.13) ** 2)) + 0.1 * np.exp(-(((np.abs(_LIP_T) - 0.3) / 0.2) ** 2))
_DIMPLE = 0.010 * np.exp(-((_LIP_T / 0.2) ** 2))


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
    """What varies between images of a subject and is no expression: gaze (x, y), how open the lids are."""

    gaze: tuple[float, float] = (0.0, 0.0)
    lids: float = 1.0


def build_face(identity: Identity, expression: Expression, rest: Rest) -> Face:
    """The geometry of one face."""
    sides = (expression.side(0), expression.side(1))
    mouth = _mouth(identity, expression)
    return Face(
        identity=identity,
        outline=head_outline(identity, mouth.jaw),
        brows=_brows(identity, sides),
        eyes=(_eye(identity, sides[0], 0, rest), _eye(identity, sides[1], 1, rest)),
        mouth=mouth,
        nose_y=identity.nose_length,
        nose_up=(0.075 * sides[0][9], 0.075 * sides[1][9]),
        sides=sides,
    )


def head_outline(identity: Identity, jaw: float) -> Points:
    """The edge of the face [n, 2] with the jaw dropped by `jaw`."""
    if jaw > 0:
        return _outline(identity, jaw)
    return _closed_outline(identity)


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


@lru_cache(maxsize=1024)
def _closed_outline(identity: Identity) -> Points:
    return _outline(identity, 0.0)


def _brows(identity: Identity, sides: tuple[dict[int, float], dict[int, float]]) -> tuple[Points, Points]:
    """Centre lines [17, 2] from the inner to the outer end."""
    rest = identity.brow_height + identity.brow_arch * _BROW_ARCH + identity.brow_tilt * _BROW_TILT
    lines = []
    for sign, au in zip(SIGN, sides, strict=True):
        # a raised inner brow holds against the frown: together they slant the brow
        amounts = np.array([au[unit] for unit in _BROW_UNITS])
        amounts[2] *= 1 - 0.55 * au[1]
        y = rest + amounts @ _BROW_MOVES + identity.asymmetry * sign
        lines.append(smooth(columns(sign * (_BROW_X - au[4] * _BROW_SQUEEZE), y), 4))
    return lines[0], lines[1]


def _eye(identity: Identity, au: dict[int, float], side: int, rest: Rest) -> Eye:
    upper = (0.098 * identity.eye_open) * rest.lids
    upper += 0.075 * au[5] - 0.03 * au[7] - 0.014 * au[6] - 0.012 * au[4] - 0.02 * au[9] - 0.012 * au[12]
    lower = 0.064 * identity.eye_open
    lower += 0.012 * au[5] - 0.036 * au[7] - 0.045 * au[6] - 0.018 * au[9] - 0.008 * au[12]
    upper = max(upper, 0.012)
    lower = max(lower, 0.008)
    # sorrow lifts the inner third of the upper lid
    sorrow = au[1] * (1 - au[2]) * (0.3 + 0.7 * au[4])
    base = _TEAR_DUCT - identity.eye_tilt * _EYE_T
    upper_y = base + upper * _UPPER_LID + sorrow * _SORROW
    fold_y = upper_y - identity.eye_fold * (1 - 0.5 * au[4]) * _FOLD - 0.012 + 0.02 * sorrow * _EYE_T
    x = SIGN[side] * (0.5 + identity.eye_width * _EYE_T)
    return Eye(
        upper=columns(x, upper_y),
        lower=columns(x, base + lower * _LOWER_LID),
        fold=columns(x, fold_y),
        pupil=(SIGN[side] * 0.5 + 0.06 * rest.gaze[0], 0.045 * rest.gaze[1] - 0.012),
        opening=upper + lower,
    )


# What units do to the mouth at full strength: unit -> (half width, height at the corners)
_MOUTH_MOVES = {
    12: (0.12, -0.185),
    20: (0.13, 0.045),
    14: (0.035, -0.03),
    23: (-0.05, 0.0),
    17: (-0.045, 0.035),
    15: (0.0, 0.16),
    16: (0.0, 0.02),
}
_MOUTH_ROWS = [UNIT_ROW[unit] for unit in _MOUTH_MOVES]
_MOUTH_MATRIX = np.array(list(_MOUTH_MOVES.values())).T
_LIP_ROWS = [UNIT_ROW[unit] for unit in (9, 12, 16, 17, 20, 23)]


def _mouth(identity: Identity, expression: Expression) -> Mouth:
    units = expression.units
    mid = dict(zip(UNITS, units.mean(1).tolist(), strict=True))
    width, corners = _MOUTH_MATRIX @ (units[_MOUTH_ROWS] @ _SHARE)
    au9, au12, au16, au17, au20, au23 = units[_LIP_ROWS] @ _SHARE
    half = identity.mouth_width + width - 0.11 * mid[26] * (1 - mid[20])
    y = identity.mouth_y - 0.035 * mid[17] + 0.03 * mid[26] + 0.02 * mid[12] - 0.03 * mid[15]
    y = y + _BEND * (corners + identity.rest_corner)
    lift = (0.045 * au9 + 0.012 * au12) * _ARC_50
    parted = 0.085 * mid[25] * (1 + 0.35 * mid[12]) + 0.05 * mid[16] + 0.42 * mid[26]
    gap = max(parted - 0.03 * mid[17], 0.0)
    thin = (1 - 0.5 * au23) * (1 - 0.22 * au12) * (1 - 0.2 * au20)
    upper = identity.upper_lip * thin * (1 - 0.2 * mid[26])
    lower = identity.lower_lip * thin * (1 + 0.15 * au17 + 0.25 * au16) * (1 - 0.15 * mid[26])
    inner_top = y - lift - 0.22 * gap * _ARC_70
    if gap < 0.02:
        inner_top = inner_top + _DIMPLE
    inner_bottom = np.maximum(y - (1.0 if gap < 0.005 else 0.3) * lift + 0.78 * gap * _ARC_60, inner_top)
    x = half * _LIP_T
    return Mouth(
        top=columns(x, inner_top - upper * _ARC_70 * _BOW),
        inner_top=columns(x, inner_top),
        inner_bottom=columns(x, inner_bottom),
        bottom=columns(x, inner_bottom + lower * _ARC_60),
        gap=gap,
        jaw=0.24 * mid[26],
    )
