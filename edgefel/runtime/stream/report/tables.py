"""What the report says of people in numbers: the tables of the page, rows of the CSV file, and the page's own data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgefel.report.formats import clock, percent
from edgefel.report.tables import Cell, Table, table_of, word
from edgefel.runtime.results import UNSURE
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.shares import Share
from edgefel.runtime.stream.report.timeline import Person, Segment

# of one person in the page: the longest; its data have all
MOST_LINES = 200


def csv_row(person: Person) -> dict[str, Any]:
    """One row of the CSV file. Times in seconds of the stream, shares from 0 to 1."""
    row: dict[str, Any] = {
        "person": person.number,
        "begin": round(person.began, 3),
        "end": round(person.last, 3),
        "seconds": round(person.seconds, 3),
        "frames": person.frames,
        "label": person.top.label,
        "changes": person.changes,
        "confidence": person.confidence,
        "quality": person.quality,
    }
    for share in person.shares:
        row |= {
            f"seconds_{share.label}": round(share.seconds, 3),
            f"share_{share.label}": round(share.value, 4),
            f"low_{share.label}": round(share.low, 4),
            f"high_{share.label}": round(share.high, 4),
        }
    return row


def page_rows(record: StreamRecord) -> list[dict[str, Any]]:
    """Every segment of the people of the page, and every cut, as plain JSON values."""
    rows = [
        {"kind": "segment", "person": person.number, **segment.to_dict()}
        for person in record.people
        for segment in person.segments
    ]
    return rows + [{"kind": "cut", "time": round(cut, 3)} for cut in record.cuts]


def people_table(people: Iterable[Person]) -> Table:
    """A line for each person."""
    titles = ("person", "mostly", "of the time", "unsure", "changes", "seen for (s)", "from", "to")
    lines = []
    for person in people:
        top = person.top
        unsure = next(share for share in person.shares if share.label == UNSURE)
        lines.append(
            [
                Cell(str(person.number), person.number),
                word(top.label),
                _share(top),
                _share(unsure) if unsure.seconds else Cell("0 %", 0.0),
                Cell(str(person.changes), person.changes),
                _number(person.seconds, 1),
                Cell(clock(person.began), person.began),
                Cell(clock(person.last), person.last),
                _number(person.confidence),
                _number(person.quality),
            ]
        )
    return table_of((*titles, "confidence", "quality"), lines)


def shares_table(person: Person) -> Table:
    """A line for each label."""
    lines = [
        [word(share.label), _share(share), _number(share.seconds, 1), _number(share.size, 1)]
        for share in person.shares
    ]
    return table_of(("label", "share", "time (s)", "effective sample size"), lines)


def segments_table(person: Person) -> Table:
    """A line for each of the MOST_LINES longest segments, in order of time."""
    longest = sorted(person.segments, key=_length, reverse=True)[:MOST_LINES]
    lines = [
        [
            Cell(clock(segment.begin, 2), segment.begin),
            Cell(clock(segment.end, 2), segment.end),
            _number(_length(segment)),
            word(segment.label),
            *(_number(segment.to_dict()[name]) for name in ("probability", "confidence", "quality")),
        ]
        for segment in sorted(longest, key=lambda segment: segment.begin)
    ]
    titles = ("from", "to", "length (s)", "label", "probability", "confidence", "quality")
    return table_of(titles, lines)


def _length(segment: Segment) -> float:
    return segment.end - segment.begin


def _share(share: Share) -> Cell:
    low, high = (percent(end, 0).removesuffix(" %") for end in (share.low, share.high))
    return Cell(percent(share.value, 0), share.value, aside=f"{low}–{high} %")


def _number(value: float | None, decimals: int = 2) -> Cell:
    return Cell() if value is None else Cell(f"{value:.{decimals}f}", value)
