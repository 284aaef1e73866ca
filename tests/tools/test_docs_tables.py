"""Every table of README.md and docs/ is what the committed results say."""

from __future__ import annotations

import docs_tables
from click.testing import CliRunner, Result
from markdown_tables import TABLES, names_in


def tables(*arguments: str) -> Result:
    return CliRunner().invoke(docs_tables.main, arguments)


def test_no_page_is_stale():
    found = tables("--check")
    assert found.exit_code == 0, found.output


def test_every_place_has_a_table_and_its_end():
    for page in docs_tables.PAGES:
        content = page.read_text(encoding="utf-8")
        names = names_in(content)
        assert len(names) == content.count("<!-- results: ") == content.count("<!-- end of results: "), page
        assert set(names) <= set(TABLES), page


def test_a_stale_page_and_a_table_without_a_place_are_named_and_the_page_is_made_again(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results: calibration -->\nold\n<!-- end of results: calibration -->\nb\n")
    monkeypatch.setattr(docs_tables, "PAGES", (page,))
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    monkeypatch.setattr(docs_tables, "TABLES", dict.fromkeys(("calibration", "speed")))
    found = tables("--check")
    assert found.exit_code == 1
    assert found.output.splitlines() == [
        "no page has a place for the table 'speed'",
        "page.md is stale; run: python tools/docs_tables.py",
    ]
    assert "old" in page.read_text()
    tables()
    lines = page.read_text().splitlines()
    assert [*lines[:2], *lines[-2:]] == [
        *("a", "<!-- results: calibration -->", "<!-- end of results: calibration -->", "b")
    ]
    assert lines[2:-2] == [TABLES["calibration"]()]


def test_a_place_without_results_is_named_and_stays(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("<!-- results: experiment none -->\nold\n<!-- end of results: experiment none -->\n")
    monkeypatch.setattr(docs_tables, "PAGES", (page,))
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    monkeypatch.setattr(docs_tables, "TABLES", {})
    found = tables()
    assert (found.exit_code, found.output) == (
        1,
        "page.md: no results are there for the table 'experiment none'\n",
    )
    assert "old" in page.read_text()
