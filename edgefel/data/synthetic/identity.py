"""Who a synthetic subject is: everything about a face that does not change between images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]

# from pale to dark; tones between are interpolated
_SKIN = np.array(
    [
        (250, 222, 202),
        (243, 204, 176),
        (231, 183, 147),
        (210, 156, 116),
        (180, 122, 84),
        (143, 92, 60),
        (110, 71, 49),
        (86, 57, 43),
    ],
    dtype=np.float64,
)
_HAIR: tuple[Colour, ...] = (
    (26, 22, 22),
    (44, 31, 25),
    (72, 47, 32),
    (106, 70, 42),
    (150, 108, 62),
    (206, 170, 108),
    (138, 62, 32),
    (132, 130, 130),
    (198, 196, 192),
)
_IRIS: tuple[Colour, ...] = (
    (62, 38, 22),
    (92, 60, 30),
    (104, 94, 48),
    (74, 112, 82),
    (84, 122, 156),
    (110, 124, 134),
)
HAIR_STYLES = ("bald", "short", "fringe", "long", "parted", "curly", "receding", "scarf", "cap", "bob")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class Identity:
    """Features of a subject. Lengths are in face units: the distance between the pupils is 1. `stream` seeds
    what is too fine to list, such as single hairs."""

    stream: int
    skin: Colour
    tone: float
    lips: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    cloth: Colour
    hair_style: str
    light_hair: bool
    beard: str
    glasses: str
    glasses_colour: Colour
    age: float
    makeup: float
    freckles: float
    face_width: float
    jaw_width: float
    chin: float
    chin_width: float
    forehead: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    eye_fold: float
    brow_height: float
    brow_arch: float
    brow_thick: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    rest_corner: float
    part: float
    asymmetry: float

    def __hash__(self) -> int:
        # identities are keys of many caches: hashing all features would take longer than finding them
        return hash(self.stream)


def draw_identity(seed: int, subject: int) -> Identity:
    """The subject's features; depends on nothing but the two numbers."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, subject], spawn_key=(1,)))
    tone = float(rng.uniform(0, 1))
    skin = _skin(tone, rng)
    age = float(rng.beta(1.3, 1.8))
    hair, light = _hair_colour(tone, age, rng)
    lips = np.array(skin) * (0.86, 0.62, 0.62) + np.array((18, 4, 6)) * (1 - tone)
    masculine = bool(rng.random() < 0.5)
    makeup = 0.0 if masculine or rng.random() < 0.4 else float(rng.uniform(0.2, 1.0))
    lipstick = np.array([(178, 44, 58), (150, 40, 70), (196, 84, 84), (140, 62, 54)][int(rng.integers(4))])
    lips = lips + (lipstick - lips) * 0.55 * makeup
    if masculine:
        style = str(rng.choice(HAIR_STYLES, p=(0.13, 0.33, 0.04, 0.04, 0.16, 0.1, 0.13, 0.0, 0.07, 0.0)))
        beard = str(rng.choice(BEARDS, p=(0.45, 0.2, 0.08, 0.1, 0.17)))
    else:
        style = str(rng.choice(HAIR_STYLES, p=(0.0, 0.06, 0.2, 0.26, 0.12, 0.12, 0.0, 0.08, 0.03, 0.13)))
        beard = "none"
    brow = tuple((np.array(hair) * (0.55 if light else 0.8) + 4).tolist())
    glasses = str(rng.choice(["none", "round", "square", "rimless"], p=(0.66, 0.12, 0.15, 0.07)))

    def vary(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    male = 1.0 if masculine else 0.0
    return Identity(
        stream=int(rng.integers(2**63)),
        skin=skin,
        tone=tone,
        lips=_colour(lips),
        hair=hair,
        brow=_colour(np.array(brow)),
        iris=_IRIS[int(rng.integers(2 if tone > 0.55 else len(_IRIS)))],
        cloth=_colour(rng.uniform(35, 200) + rng.uniform(-40, 40, 3)),
        hair_style=style,
        light_hair=light,
        beard=beard,
        glasses=glasses,
        glasses_colour=_colour(
            np.array([(24, 22, 24), (70, 40, 26), (120, 116, 110), (40, 46, 84)][rng.integers(4)])
        ),
        age=age,
        makeup=makeup,
        freckles=float(max(0.0, rng.uniform(-1.2, 1)) * (1 - tone)),
        face_width=vary(1.07, 0.045),
        jaw_width=vary(0.80 + 0.05 * male, 0.05),
        chin=vary(1.60 + 0.04 * male, 0.05),
        chin_width=vary(0.40 + 0.05 * male, 0.05),
        forehead=vary(-0.90, 0.07),
        eye_width=vary(0.235, 0.014),
        eye_open=vary(1.0, 0.11),
        eye_tilt=vary(0.02, 0.025),
        eye_fold=float(max(0.0, vary(0.055, 0.022))),
        brow_height=vary(-0.345, 0.03),
        brow_arch=vary(0.06, 0.022),
        brow_thick=vary(0.062 + 0.02 * male, 0.012),
        brow_tilt=vary(0.0, 0.018),
        nose_length=vary(0.70, 0.045),
        nose_width=vary(0.235 + 0.04 * tone, 0.025),
        nose_height=vary(1.0 - 0.2 * tone, 0.13),
        mouth_width=vary(0.425, 0.03),
        mouth_y=vary(1.105, 0.03),
        upper_lip=vary(0.094 + 0.03 * tone - 0.015 * male, 0.015),
        lower_lip=vary(0.126 + 0.03 * tone - 0.01 * male, 0.017),
        rest_corner=vary(-0.004, 0.014),
        part=float(rng.uniform(-0.5, 0.5)),
        asymmetry=vary(0.0, 0.012),
    )


def _skin(tone: float, rng: np.random.Generator) -> Colour:
    position = tone * (len(_SKIN) - 1)
    base = np.array([np.interp(position, np.arange(len(_SKIN)), _SKIN[:, channel]) for channel in range(3)])
    return _colour(base * (1 + rng.uniform(-0.04, 0.04, 3)))


def _hair_colour(tone: float, age: float, rng: np.random.Generator) -> tuple[Colour, bool]:
    if age > 0.6 and rng.random() < 0.65:
        index = int(rng.integers(7, 9))
    elif tone > 0.5:
        index = int(rng.integers(0, 2))
    else:
        index = int(rng.choice(7, p=(0.16, 0.18, 0.2, 0.16, 0.11, 0.12, 0.07)))
    return _colour(np.array(_HAIR[index]) * rng.uniform(0.85, 1.15)), index in (4, 5, 7, 8)


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = np.clip(values, 0, 255).tolist()
    return red, green, blue
