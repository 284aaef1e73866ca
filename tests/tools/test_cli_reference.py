"""The page of all commands holds each, as its help prints it."""

from __future__ import annotations

import re
from pathlib import Path

from cli_reference import PLACE, cli_reference

ROOT = Path(__file__).parents[2]


def test_every_command_with_its_options():
    parts = list(cli_reference())
    listed = (ROOT / "tests/cli/surface.txt").read_text().partition("\nformats\n")[0]
    commands = [line for line in listed.splitlines() if not line.startswith(" ")]
    headings = dict(zip(parts[::2], parts[1::2], strict=True))
    assert {f"#### {name}" if name.count(" ") > 1 else f"### {name}" for name in commands} <= set(headings)
    options = set(re.findall(r"^  (--[a-z-]+)", listed, flags=re.MULTILINE))
    assert len(options) > 100
    page = "\n".join(parts)
    assert [option for option in sorted(options) if option not in page] == []
    assert "\n      edgefel predict photo.jpg --save labelled\n" in page.replace(
        "    edgefel", "      edgefel"
    )


def test_lines_fit_the_page():
    long = [line for part in cli_reference() for line in part.splitlines() if len(line) > 110]
    assert long == []


def test_the_page_has_a_place_for_it():
    assert (ROOT / "docs/reference/cli.md").read_text().count(PLACE) == 1
