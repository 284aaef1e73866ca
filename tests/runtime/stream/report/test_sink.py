"""The page and its table as files: when they are written, whole or not at all."""

from __future__ import annotations

import csv

import pytest
from seen_people import LABELS, played

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.report import record as record_module
from edgefel.runtime.stream.report import sink as sink_module
from edgefel.runtime.stream.report.page import About
from edgefel.runtime.stream.report.sink import ReportSink, check_report_target, csv_beside

ABOUT = About("memory", "memory", LABELS)
SCRIPTS = (((0, 3, "anger"), (3, 4, "neutral")), ((0, 1, "happiness"),))


@pytest.fixture
def undrawn(monkeypatch):
    """The page says only how much it was to show: drawing takes a second."""
    monkeypatch.setattr(sink_module, "render", lambda record, about: f"people: {len(record.people)}\n")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(page, **how) -> ReportSink:
    sink = ReportSink(page, ABOUT, **how)
    for result in played(SCRIPTS, 4):
        sink.write(result)
    return sink


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_page_and_a_row_for_each_person(tmp_path):
    page = tmp_path / "new" / "report.html"
    sink = filled(page)
    # nothing that could be taken for a report
    assert all(name.startswith(".") for name in names(page.parent))
    sink.close()
    sink.close()
    assert names(page.parent) == ["report.csv", "report.html"]
    assert page.read_text().startswith("<!doctype html>")
    rows = rows_of(csv_beside(page))
    # in the order in which they left
    assert [(row["person"], row["label"], row["seconds"]) for row in rows] == [
        ("2", "happiness", "1.0"),
        ("1", "anger", "4.0"),
    ]
    assert "<img" not in page.read_text()


def test_thumbnails_only_where_they_are_wanted(tmp_path):
    filled(tmp_path / "report.html", thumbnails=True).close()
    assert (tmp_path / "report.html").read_text().count("<img ") == 3


def test_the_table_has_people_that_the_page_leaves_out(tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(record_module, "MOST_PEOPLE", 1)
    filled(tmp_path / "report.html").close()
    assert len(rows_of(tmp_path / "report.csv")) == 2
    assert (tmp_path / "report.html").read_text() == "people: 1\n"


def test_without_a_frame_nothing_is_written(tmp_path):
    ReportSink(tmp_path / "report.html", ABOUT).close()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.pdf", "report.pdf: a report is a page; give a name that ends in .html"),
        ("report", "report: a report is a page"),
        ("-", "-: a report is a page"),
        ("folder.html", "folder.html: is a folder"),
        ("mine.html", "mine.html: exists; choose another name, remove it, or allow it with --overwrite"),
        ("table.html", "table.csv: exists"),
        ("mine.html/report.html", "is a file, not a folder"),
    ],
)
def test_wrong_places_are_refused_at_once(name, message, tmp_path):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "table.csv").write_text("mine")
    before = names(tmp_path)
    for make in (check_report_target, lambda page: ReportSink(page, ABOUT)):
        with pytest.raises(EdgefelError) as caught:
            make(tmp_path / name)
        assert message in str(caught.value)
    assert names(tmp_path) == before


def test_what_an_earlier_run_wrote_is_replaced_where_that_is_allowed(tmp_path, undrawn):
    page = tmp_path / "report.html"
    for path in (page, csv_beside(page)):
        path.write_text("of an earlier run")
    sink = ReportSink(page, ABOUT, overwrite=True)
    for result in played(SCRIPTS, 1):
        sink.write(result)
    assert page.read_text() == csv_beside(page).read_text() == "of an earlier run"
    sink.close()
    assert page.read_text() == "people: 2\n"
    assert [row["end"] for row in rows_of(tmp_path / "report.csv")] == ["1.0", "1.0"]


def test_what_appeared_meanwhile_is_kept(tmp_path, undrawn):
    page = tmp_path / "report.html"
    sink = filled(page)
    page.write_text("of somebody else")
    with pytest.raises(EdgefelError, match="appeared meanwhile") as caught:
        sink.close()
    assert "report.finished.html" in str(caught.value)
    assert page.read_text() == "of somebody else"
    assert names(tmp_path) == ["report.csv", "report.finished.html", "report.html"]


def test_a_page_that_cannot_be_drawn_leaves_the_table(tmp_path, monkeypatch):
    def fail(*arguments: object) -> str:
        raise MemoryError

    monkeypatch.setattr(sink_module, "render", fail)
    sink = filled(tmp_path / "report.html")
    with pytest.raises(MemoryError):
        sink.close()
    assert names(tmp_path) == ["report.csv"]
