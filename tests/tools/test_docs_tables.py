"""Every table of README.md and docs/ is what the committed results say."""

from __future__ import annotations

import docs_tables
from markdown_tables import TABLES, names_in


def test_no_page_is_stale(capsys):
    assert docs_tables.main(["--check"]) == 0, capsys.readouterr().err


def test_every_place_has_a_table_and_its_end():
    for page in docs_tables.PAGES:
        content = page.read_text(encoding="utf-8")
        names = names_in(content)
        assert len(names) == content.count("<!-- results: ") == content.count("<!-- end of results: "), page
        assert set(names) <= set(TABLES), page


def test_a_stale_page_and_a_table_without_a_place_are_named_and_the_page_is_made_again(
    tmp_path, monkeypatch, capsys
):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results: calibration -->\nold\n<!-- end of results: calibration -->\nb\n")
    monkeypatch.setattr(docs_tables, "PAGES", (page,))
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    monkeypatch.setattr(docs_tables, "TABLES", dict.fromkeys(("calibration", "speed")))
    assert docs_tables.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "no page has a place for the table 'speed'",
        "page.md is stale; run: python tools/docs_tables.py",
    ]
    assert "old" in page.read_text()
    docs_tables.main([])
    lines = page.read_text().splitlines()
    assert [*lines[:2], *lines[-2:]] == [
        *("a", "<!-- results: calibration -->", "<!-- end of results: calibration -->", "b")
    ]
    assert lines[2:-2] == [TABLES["calibration"]()]
