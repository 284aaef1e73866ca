"""Identity of a synthetic subject: everything about a face that does not change between images."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgefel.data.synthetic.shapes import Colour

# Red, green and blue of skin from pale to dark; tones between are interpolated.
_SKIN = (
    (250, 243, 231, 210, 180, 143, 110, 86),
    (222, 204, 183, 156, 122, 92, 71, 57),
    (202, 176, 147, 116, 84, 60, 49, 43),
)
# Colours [n, 3], given as their red, green and blue. The last two of hair are grey.
_HAIR = np.array(
    [
        (26, 44, 72, 106, 150, 206, 138, 132, 198),
        (22, 31, 47, 70, 108, 170, 62, 130, 196),
        (22, 25, 32, 42, 62, 108, 32, 130, 192),
    ]
).T
_IRIS = np.array([(62, 92, 104, 74, 84, 110), (38, 60, 94, 112, 122, 124), (22, 30, 48, 82, 156, 134)]).T
_LIPSTICK = np.array([(178, 44, 58), (150, 40, 70), (196, 84, 84), (140, 62, 54)])
_FRAMES = np.array([(24, 22, 24), (70, 40, 26), (120, 116, 110), (40, 46, 84)])
_LIGHT_HAIR = (4, 5, 7, 8)
# Chances of hair styles: masculine, feminine.
_STYLES = {
    "bald": (0.13, 0.0),
    "short": (0.33, 0.06),
    "fringe": (0.04, 0.2),
    "long": (0.04, 0.26),
    "parted": (0.16, 0.12),
    "curly": (0.1, 0.12),
    "receding": (0.13, 0.0),
    "scarf": (0.0, 0.08),
    "cap": (0.07, 0.03),
    "bob": (0.0, 0.13),
}
_BEARDS = {"none": 0.45, "stubble": 0.2, "moustache": 0.08, "goatee": 0.1, "full": 0.17}
_GLASSES = {"none": 0.66, "round": 0.12, "square": 0.15, "rimless": 0.07}


def _normal(mean: float, spread: float, tone: float = 0.0, male: float = 0.0) -> Any:
    """A normally distributed feature; tone, male: what dark skin and a masculine face add to the mean."""
    return _drawn(normal=(mean, spread, tone, male))


def _drawn(**distribution: tuple[float, ...]) -> Any:
    return field(metadata=distribution)


@dataclass(frozen=True)
class Identity:
    """Features of a subject. Lengths are in face units: the distance between the pupils is 1.

    `stream` seeds what is too fine to list, such as single hairs.
    """

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
    face_width: float = _normal(1.07, 0.045)
    jaw_width: float = _normal(0.80, 0.05, male=0.05)
    chin: float = _normal(1.60, 0.05, male=0.04)
    chin_width: float = _normal(0.40, 0.05, male=0.05)
    forehead: float = _normal(-0.90, 0.07)
    eye_width: float = _normal(0.235, 0.014)
    eye_open: float = _normal(1.0, 0.11)
    eye_tilt: float = _normal(0.02, 0.025)
    eye_fold: float = _normal(0.055, 0.022)  # at least 0
    brow_height: float = _normal(-0.345, 0.03)
    brow_arch: float = _normal(0.06, 0.022)
    brow_thick: float = _normal(0.062, 0.012, male=0.02)
    brow_tilt: float = _normal(0.0, 0.018)
    nose_length: float = _normal(0.70, 0.045)
    nose_width: float = _normal(0.235, 0.025, tone=0.04)
    nose_height: float = _normal(1.0, 0.13, tone=-0.2)
    mouth_width: float = _normal(0.425, 0.03)
    mouth_y: float = _normal(1.105, 0.03)
    upper_lip: float = _normal(0.094, 0.015, tone=0.03, male=-0.015)
    lower_lip: float = _normal(0.126, 0.017, tone=0.03, male=-0.01)
    rest_corner: float = _normal(-0.004, 0.014)
    part: float = _drawn(uniform=(-0.5, 0.5))
    asymmetry: float = _normal(0.0, 0.012)

    def __hash__(self) -> int:
        # identities are keys of many caches: hashing all features would take longer than finding them
        return hash(self.stream)


@lru_cache(maxsize=4096)
def draw_identity(seed: int, subject: int) -> Identity:
    """The subject's features; depends on nothing but the two numbers."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, subject], spawn_key=(1,)))
    # the order of the draws decides the features: keep it
    tone = float(rng.uniform(0, 1))
    position = tone * (len(_SKIN[0]) - 1)
    base = np.array([np.interp(position, np.arange(len(channel)), channel) for channel in _SKIN])
    skin = base * (1 + rng.uniform(-0.04, 0.04, 3))
    age = float(rng.beta(1.3, 1.8))
    hair, light = _hair_colour(tone, age, rng)
    lips = np.array(_colour(skin)) * (0.86, 0.62, 0.62) + np.array((18, 4, 6)) * (1 - tone)
    masculine = bool(rng.random() < 0.5)
    makeup = 0.0 if masculine or rng.random() < 0.4 else float(rng.uniform(0.2, 1.0))
    lips = lips + (_LIPSTICK[int(rng.integers(4))] - lips) * 0.55 * makeup
    style = _choose({name: chances[0 if masculine else 1] for name, chances in _STYLES.items()}, rng)
    return Identity(
        beard=_choose(_BEARDS, rng) if masculine else "none",
        glasses=_choose(_GLASSES, rng),
        stream=int(rng.integers(2**63)),
        skin=_colour(skin),
        tone=tone,
        lips=_colour(lips),
        hair=hair,
        brow=_colour(np.array(hair) * (0.55 if light else 0.8) + 4),
        iris=tuple(_IRIS[int(rng.integers(2 if tone > 0.55 else len(_IRIS)))].tolist()),
        cloth=_colour(rng.uniform(35, 200) + rng.uniform(-40, 40, 3)),
        hair_style=style,
        light_hair=light,
        glasses_colour=_colour(_FRAMES[rng.integers(4)]),
        age=age,
        makeup=makeup,
        freckles=float(max(0.0, rng.uniform(-1.2, 1)) * (1 - tone)),
        **_draw_lengths(tone, masculine, rng),
    )


def _draw_lengths(tone: float, masculine: bool, rng: np.random.Generator) -> dict[str, float]:
    lengths = {}
    for feature in fields(Identity):
        if "normal" in feature.metadata:
            mean, spread, by_tone, male = feature.metadata["normal"]
            mean = mean + by_tone * tone + male * masculine
            lengths[feature.name] = float(mean + spread * np.clip(rng.standard_normal(), -2, 2))
        elif "uniform" in feature.metadata:
            lengths[feature.name] = float(rng.uniform(*feature.metadata["uniform"]))
    return lengths | {"eye_fold": max(0.0, lengths["eye_fold"])}


def _hair_colour(tone: float, age: float, rng: np.random.Generator) -> tuple[Colour, bool]:
    if age > 0.6 and rng.random() < 0.65:
        index = int(rng.integers(7, 9))
    elif tone > 0.5:
        index = int(rng.integers(0, 2))
    else:
        index = int(rng.choice(7, p=(0.16, 0.18, 0.2, 0.16, 0.11, 0.12, 0.07)))
    return _colour(_HAIR[index] * rng.uniform(0.85, 1.15)), index in _LIGHT_HAIR


def _choose(chances: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(chances), p=list(chances.values())))


def _colour(values: ArrayLike) -> Colour:
    return tuple(np.clip(values, 0, 255).tolist())
