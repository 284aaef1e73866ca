from __future__ import annotations

import math

import pytest

from edgefel.report.formats import clock, interval, megabytes, percent, points, significant, times


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-1.2345, "-1.23"), (0.00099951, "0.00100"), (9.999, "10.0"), (1234567.0, "1 234 567")],
)
def test_three_significant_digits_whatever_the_size(value, text):
    assert significant(value) == text
    if value:
        assert float(text.replace(" ", "")) == pytest.approx(value, rel=0.005)
        assert significant(math.copysign(value, -value)).removeprefix("-") == text.removeprefix("-")


def test_digits_can_be_asked_for():
    assert (significant(3.14159, 1), significant(3.14159, 5)) == ("3", "3.1416")


@pytest.mark.parametrize(
    ("ends", "like", "text"),
    [
        ((0.5, 1.25), 1.0, "0.50–1.25"),
        ((1999.6, 2000.4), 2000, "1 999.6–2 000.4"),
        ((1.0, 1.0), 1.0, "1.0000–1.0000"),
        ((0.0, 0.5), 0.0, "0.00–0.50"),
        ((1.0, 2.0), None, ""),
    ],
)
def test_an_interval_has_the_decimals_of_its_number_or_as_many_as_tell_its_ends_apart(ends, like, text):
    assert interval(ends, like) == text


def test_units_and_what_is_missing():
    assert (percent(0.12345), percent(1, 0), points(-0.004), points(0.1)) == (
        "12.3 %",
        "100 %",
        "-0.4 points",
        "+10.0 points",
    )
    assert (megabytes(1_234_000), times(3.1249)) == ("1.23 MB", "3.12×")
    assert {of(None) for of in (significant, percent, points, megabytes, times)} == {"–"}


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (0, 1, "0:00.0"),
        (59.96, 1, "1:00.0"),
        (59.94, 1, "0:59.9"),
        (3599.5, 0, "1:00:00"),
        (3723.456, 2, "1:02:03.46"),
        (360_000, 0, "100:00:00"),
    ],
)
def test_a_clock_carries_what_it_rounds(seconds, decimals, text):
    assert clock(seconds, decimals) == text
