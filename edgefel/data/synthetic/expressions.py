"""Facial expressions as FACS action units, after EMFACS (Friesen and Ekman, 1983)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.options import FaceOptions

# The action units that the renderer knows, in the order of the rows of `Expression.units`.
UNITS = (1, 2, 4, 5, 6, 7, 9, 12, 14, 15, 16, 17, 20, 23, 25, 26)
UNIT_ROW = {unit: row for row, unit in enumerate(UNITS)}

EMFACS: dict[str, tuple[int, ...]] = {
    "neutral": (),
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
}

# Units that often come along: lips part in a broad smile or a dropped jaw, the chin rises in sorrow.
# expression -> (unit, chance, strength relative to the expression)
COMPANIONS: dict[str, tuple[tuple[int, float, float], ...]] = {
    "happiness": ((25, 0.6, 0.9),),
    "sadness": ((17, 0.4, 0.7),),
    "surprise": ((25, 0.9, 0.8),),
    "fear": ((25, 0.8, 0.7),),
    "disgust": ((25, 0.35, 0.6), (17, 0.25, 0.6)),
    "anger": ((17, 0.3, 0.5), (25, 0.12, 0.6)),
}

# How much of a unit's full range an expression uses: a frightened jaw drops less than a surprised one.
SCALES: dict[tuple[str, int], float] = {
    ("fear", 26): 0.45,
    ("fear", 2): 0.75,
    ("fear", 4): 0.6,
    ("fear", 7): 0.6,
    ("sadness", 4): 0.6,
    ("anger", 5): 0.6,
    ("disgust", 15): 0.7,
}


@dataclass(frozen=True)
class Expression:
    """units [16, 2]: intensity of each of `UNITS` on the left and right of the image, in [0, 1].
    soft [C]: the distribution over classes that it was drawn from."""

    units: NDArray[np.float64]
    soft: NDArray[np.float64]

    def side(self, side: int) -> dict[int, float]:
        """Intensities by unit on one side: 0 is the left of the image, 1 the right."""
        return dict(zip(UNITS, self.units[:, side].tolist(), strict=True))

    def action_units(self) -> dict[int, float]:
        """Active units and the intensity of their stronger side."""
        return {unit: float(value) for unit, value in zip(UNITS, self.units.max(1), strict=True) if value > 0}


def draw_units(label: str, options: FaceOptions, rng: np.random.Generator) -> NDArray[np.float64]:
    """Intensities [16, 2] of one expression: random strength, dropped units, slightly unequal sides."""
    units = np.zeros((len(UNITS), 2))
    low, high = options.intensity
    strength = rng.uniform(low, high)
    core = EMFACS[label]
    kept = [unit for unit in core if rng.random() >= options.dropout]
    if core and not kept:
        kept = [core[int(rng.integers(len(core)))]]
    wanted = [(unit, SCALES.get((label, unit), 1.0)) for unit in kept]
    wanted += [(unit, scale) for unit, chance, scale in COMPANIONS.get(label, ()) if rng.random() < chance]
    for unit, scale in wanted:
        units[UNIT_ROW[unit]] = strength * scale * rng.uniform(0.75, 1.2) * rng.uniform(0.88, 1.0, 2)
    if label == "contempt":
        units[:, int(rng.integers(2))] *= rng.uniform(0.0, 0.15)
    return np.minimum(units, 1.0)


def draw_expression(true_class: int, options: FaceOptions, rng: np.random.Generator) -> Expression:
    """An expression of class `true_class`, mixed with another class for a share `options.blend` of faces.

    In a mixture of weight w < 0.5, units add up as (1 - w) of the first and w of the second; the soft
    label says the same. A mixture with neutral is a weak expression.
    """
    labels = options.labels
    units = draw_units(labels[true_class], options, rng)
    soft = np.zeros(len(labels))
    soft[true_class] = 1.0
    if rng.random() < options.blend:
        other = (true_class + int(rng.integers(1, len(labels)))) % len(labels)
        weight = rng.uniform(0.15, 0.48)
        units = (1 - weight) * units + weight * draw_units(labels[other], options, rng)
        soft[true_class], soft[other] = 1 - weight, weight
    return Expression(units, soft)
