"""The groups: each has a line of the docs, and they are told in one order."""

from __future__ import annotations

from pathlib import Path

from edgefel.bench.profile import names

PAGE = Path(__file__).parents[3] / "docs" / "int8-profile.md"


def test_every_group_is_explained_in_the_docs_in_the_order_of_the_tables():
    page = PAGE.read_text()
    places = [page.index(f"\n| `{name}` | ") for name in names.GROUPS]
    assert places == sorted(places)
    assert list(names.GROUPS)[-1] == names.OTHER
    assert all(names.GROUPS.values())
