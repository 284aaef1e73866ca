"""Limits out of range."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.serve.limits import Limits


@pytest.mark.parametrize(
    "wrong",
    [{"body": 0}, {"rate": -1.0}, {"head": 0.0}, {"stall": float("nan")}, {"clients": -1}, {"memory": 10}],
)
def test_out_of_range(wrong):
    with pytest.raises(EdgefelError, match=f"limit {next(iter(wrong))}"):
        Limits(**wrong)


def test_no_rate_is_allowed():
    assert Limits(rate=0.0).rate == 0
