"""Progress callbacks."""

from __future__ import annotations

import inspect

import pytest

from edgefel.cli.console import Bars
from edgefel.progress import SILENT, Progress


def test_by_default_nothing_is_shown(capfd):
    SILENT.start("a step", 3)
    SILENT.advance()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["start", "advance"])
def test_the_bars_of_the_command_line_take_the_same_calls(name):
    drawn, silent = getattr(Bars, name), getattr(Progress, name)
    assert drawn is not silent
    assert inspect.signature(drawn) == inspect.signature(silent)


def test_the_bars_count_the_units_of_a_step_and_end_it_with_the_next(capfd):
    with Bars() as bars:
        bars.start("first", 3)
        bars.advance()
        bars.advance(2)
        bars.start("second")
        bars.advance(4)
    drawn = capfd.readouterr().err
    assert "first" in drawn
    assert "3/3" in drawn
    assert "second" in drawn
    assert "4/4" in drawn
