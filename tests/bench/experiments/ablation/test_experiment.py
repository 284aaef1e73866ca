"""Experiments are checked when they are made, and settings change by dotted path."""

from __future__ import annotations

import pytest

from edgefel.bench.experiments.ablation.experiment import Claim, Experiment, Variant, merged
from edgefel.errors import EdgefelError


def test_changes_reach_into_nested_settings_and_leave_the_original_alone():
    settings = {"loss": {"smoothing": 0.1}, "epochs": 3}
    changed = merged(settings, {"loss.correction_ramp": "none", "model_settings.head.delta": 2, "epochs": 4})
    assert changed == {
        "loss": {"smoothing": 0.1, "correction_ramp": "none"},
        "epochs": 4,
        "model_settings": {"head": {"delta": 2}},
    }
    assert settings == {"loss": {"smoothing": 0.1}, "epochs": 3}


def test_an_experiment_that_contradicts_itself():
    one = Variant("a", {})
    with pytest.raises(ValueError, match="different names"):
        Experiment("x", "X", "paper", (one, one), ())
    with pytest.raises(ValueError, match="does not have"):
        Experiment("x", "X", "paper", (one,), (Claim("a", "b"),))
    with pytest.raises(ValueError, match="does not have"):
        Experiment("x", "X", "paper", (one, Variant("b", {})), (Claim("a", "b", "beauty"),))
    with pytest.raises(EdgefelError, match="no variant 'c'; choose from: 'a'"):
        Experiment("x", "X", "paper", (one,), ()).variant("c")
