"""What the report says in numbers."""

from __future__ import annotations

import pytest
from seen_people import LABELS, played

from edgefel.runtime.stream.report import tables
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.timeline import Person


def test_a_row_of_the_csv_file(record):
    row = tables.csv_row(record.people[0])
    shares = [row.pop(f"{kind}_{label}") for label in (*LABELS, "unsure") for kind in ("share", "seconds")]
    assert shares == [0.4, 4.0, 0.3, 3.0, 0.0, 0.0, 0.3, 3.0]
    for label in (*LABELS, "unsure"):
        low, high = row.pop(f"low_{label}"), row.pop(f"high_{label}")
        assert 0 <= low < high < 1
    assert row == {
        "person": 1,
        "begin": 0.0,
        "end": 10.0,
        "seconds": 10.0,
        "frames": 100,
        "label": "neutral",
        "changes": 2,
        "confidence": 0.6,
        "quality": 0.9,
    }


def test_who_was_seen_in_one_frame_has_a_row_of_the_same_columns(record):
    assert list(tables.csv_row(Person(7, LABELS, 1.0))) == list(tables.csv_row(record.people[0]))


def test_the_data_of_the_page_are_segments_and_cuts(record):
    rows = tables.page_rows(record)
    found = [(row["person"], row["begin"], row["label"]) for row in rows if row["kind"] == "segment"]
    assert found == [
        (1, 0.0, "neutral"),
        (1, 4.0, "happiness"),
        (1, 7.0, "unsure"),
        (2, 1.0, "anger"),
        (3, 10.0, "happiness"),
        (3, 14.0, "neutral"),
    ]
    assert rows[-1] == {"kind": "cut", "time": 10.0}
    assert rows[0]["end"] == 4.0
    assert rows[0]["probability"] == pytest.approx(0.8)


def texts(table, column):
    return [line[table.titles.index(column)].text for line in table.lines]


def test_the_table_of_people(record):
    table = tables.people_table(record.people)
    assert texts(table, "mostly") == ["neutral", "anger", "neutral"]
    assert texts(table, "of the time") == ["40 %", "100 %", "60 %"]
    assert texts(table, "unsure") == ["30 %", "0 %", "0 %"]
    assert texts(table, "to") == ["0:10.0", "0:10.0", "0:20.0"]
    interval = table.lines[1][table.titles.index("of the time")].aside
    assert interval == "21–100 %"


def test_the_tables_of_a_person(record):
    shares = tables.shares_table(record.people[0])
    assert texts(shares, "label") == [*LABELS, "unsure"]
    assert texts(shares, "time (s)") == ["4.0", "3.0", "0.0", "3.0"]
    segments = tables.segments_table(record.people[0])
    assert texts(segments, "length (s)") == ["4.00", "3.00", "3.00"]


def test_of_many_segments_the_longest_are_listed_in_order(monkeypatch):
    monkeypatch.setattr(tables, "MOST_LINES", 2)
    script = [(0, 1, "anger"), (1, 1.5, "neutral"), (1.5, 4, "anger")]
    record = StreamRecord(LABELS)
    for result in played([script], 4):
        record.add(result)
    record.close()
    table = tables.segments_table(record.people[0])
    assert texts(table, "from") == ["0:00.00", "0:01.50"]
