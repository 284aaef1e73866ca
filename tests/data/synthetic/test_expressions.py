from __future__ import annotations

import numpy as np
import pytest

from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.expressions import COMPANIONS, EMFACS, UNIT_ROW, draw_expression, draw_units

# the prototypes as the project's specification lists them
PROTOTYPES = {
    "neutral": set(),
    "happiness": {6, 12},
    "sadness": {1, 4, 15},
    "surprise": {1, 2, 5, 26},
    "fear": {1, 2, 4, 5, 7, 20, 26},
    "disgust": {9, 15, 16},
    "anger": {4, 5, 7, 23},
    "contempt": {12, 14},
}
PURE = FaceOptions(classes=8, blend=0.0, dropout=0.0)


@pytest.mark.parametrize("label", PROTOTYPES)
def test_expressions_are_the_prototypes_and_their_companions(label: str) -> None:
    rng = np.random.default_rng(0)
    companions = {unit for unit, _, _ in COMPANIONS.get(label, ())}
    for _ in range(50):
        units = draw_units(label, PURE, rng)
        assert units.shape == (16, 2)
        assert 0 <= units.min() <= units.max() <= 1
        active = {unit for unit, row in UNIT_ROW.items() if units[row].max() > 0}
        assert PROTOTYPES[label] <= active <= PROTOTYPES[label] | companions


def test_contempt_is_one_sided() -> None:
    rng = np.random.default_rng(1)
    sides = np.array([draw_units("contempt", PURE, rng)[UNIT_ROW[14]] for _ in range(60)])
    assert (sides.min(1) < 0.2 * sides.max(1)).all()
    assert 10 < (sides[:, 0] > sides[:, 1]).sum() < 50


def test_units_drop_out_at_the_given_rate_but_never_all() -> None:
    rng = np.random.default_rng(2)
    options = FaceOptions(blend=0.0, dropout=0.3)
    rows = [UNIT_ROW[unit] for unit in EMFACS["fear"]]
    present = np.array([draw_units("fear", options, rng)[rows].max(1) > 0 for _ in range(600)])
    assert abs(present.mean() - 0.7) < 0.04
    always = FaceOptions(blend=0.0, dropout=1.0)
    assert all((draw_units("sadness", always, rng) > 0).any() for _ in range(20))


def test_blends_mix_units_and_labels_by_the_same_weight() -> None:
    rng = np.random.default_rng(3)
    options = FaceOptions(classes=8, blend=1.0, dropout=0.0)
    for _ in range(100):
        expression = draw_expression(1, options, rng)
        assert expression.soft.sum() == pytest.approx(1.0)
        assert (expression.soft > 0).sum() == 2
        assert 0.5 < expression.soft[1] < 0.86  # the label stays the likeliest class
    share = np.mean([draw_expression(1, FaceOptions(blend=0.3), rng).soft[1] < 1 for _ in range(1000)])
    assert abs(share - 0.3) < 0.05
