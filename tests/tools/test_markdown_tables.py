"""Places in pages, and the cells of tables."""

from __future__ import annotations

import docs_tables  # noqa: F401  registers all tables
import pytest
from markdown_tables import TABLES, filled, grid, numbers, text


def test_an_empty_place_is_filled_and_an_unknown_name_is_an_error():
    place = "<!-- results: {0} -->\n<!-- end of results: {0} -->\n"
    assert TABLES["calibration"]() in filled(place.format("calibration"))
    with pytest.raises(KeyError, match="nothing"):
        filled(place.format("nothing"))


def test_cells():
    values = {"bytes": 1_234_567, "share": 0.1234, "none": None, "part": {"p50": 2.5}, "list": [1, 2]}
    assert text("{bytes!M:.1f} {share!c:.1f} {part[p50]:g} {list[1]}", values) == "1.2 12.3 2.5 2"
    assert text("{none:.1f}", values) == ""
    assert text(lambda row: str(row["share"]), values) == "0.1234"
    assert grid([values], {"": "{bytes}", "b": "{share:.0%}"}, gap="") == [
        "| | b |",
        "|---|---:|",
        "| 1234567 | 12% |",
    ]


def test_numbers_name_every_command_once():
    rows = [{"results": "a.jsonl", "command": name} for name in ("one", "two", "one")]
    assert numbers(*rows) == "Numbers: [results/a.jsonl](results/a.jsonl), made by `one` and `two`."
