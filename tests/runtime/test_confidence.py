"""The confidence of a distribution: its extremes, and the model's own."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.runtime.confidence import confidence_of, entropy_confidence


@pytest.mark.parametrize(
    ("values", "expected"), [([0.25] * 4, 0.0), ([1.0, 0, 0, 0], 1.0), ([0.5, 0.5, 0, 0], 0.5)]
)
def test_distributions_whose_entropy_is_known(values, expected):
    assert entropy_confidence(np.array(values)) == pytest.approx(expected)
    assert confidence_of(values) == pytest.approx(expected)


def test_it_is_the_models():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from edgefel.models.reliability import confidence

    rows = torch.rand(50, 7, dtype=torch.float64).pow(4)
    rows /= rows.sum(1, keepdim=True)
    assert entropy_confidence(rows.numpy()) == pytest.approx(confidence(rows).numpy(), abs=1e-9)
