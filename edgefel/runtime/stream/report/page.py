"""The record of a stream as a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefel.report.figures import to_svg
from edgefel.report.formats import clock, percent
from edgefel.report.pages import render_page
from edgefel.runtime.stream.report import charts, tables
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.timeline import Person
from edgefel.text import counted


@dataclass(frozen=True)
class About:
    """What a stream was labelled with.

    source: its name, the title. description: the same with what was found there. labels: class names of the network.
    thresholds: confidence and quality below which a face is "unsure". made_of: lines at the end of the page, by name.
    """

    source: str
    description: str
    labels: tuple[str, ...]
    thresholds: tuple[float, float] = (0.0, 0.0)
    made_of: Mapping[str, str] = field(default_factory=dict)


def render(record: StreamRecord, about: About) -> str:
    """The page as HTML, of a record that is closed."""
    drawn = charts.overview(record)
    people = record.people
    return render_page(
        "stream.html.j2",
        about=about,
        answer=_answer(record),
        record=record,
        people=[_person(person, about.thresholds) for person in people],
        summary=tables.people_table(people),
        overview="" if drawn is None else to_svg(drawn, _overview_text(record)),
        frames=_frames(record),
        rows=tables.page_rows(record),
        most_lines=tables.MOST_LINES,
    )


def _person(person: Person, thresholds: tuple[float, float]) -> dict[str, Any]:
    """What the template shows of one person."""
    seen = [share for share in person.shares if share.seconds]
    seen.sort(key=lambda share: -share.value)
    words = ", ".join(f"{share.label} {percent(share.value, 0)}" for share in seen)
    chosen = {} if person.thumbnails is None else person.thumbnails.by_label
    return {
        "number": person.number,
        "when": f"{clock(person.began)} to {clock(person.last)}",
        "words": words,
        "changes": person.changes,
        "least": person.least,
        "chart": to_svg(charts.timeline(person, thresholds), f"Person {person.number} over time: {words}"),
        "shares": tables.shares_table(person),
        "segments": tables.segments_table(person),
        "count": len(person.segments),
        "thumbnails": [
            {"label": label, "url": chosen[label].url, "at": clock(chosen[label].time)}
            for label in person.labels
            if label in chosen
        ],
    }


def _answer(record: StreamRecord) -> str:
    found, length = record.all, _length(record.ended - record.began)
    if not found.people:
        return f"No face was followed in {length}"
    parts = [f"{counted(found.people, 'person', 'people')} in {length}, at most {record.together} at a time"]
    parts.append(counted(found.changes, "change") + " of label")
    if found.unsure:
        parts.append(f"unsure {percent(found.unsure / found.seconds, 0)} of the time")
    if record.cut_count:
        parts.append(f"{counted(record.cut_count, 'cut')}, after which everyone is a new person")
    return "; ".join(parts)


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{clock(seconds, 0)} {'h' if seconds >= 3600 else 'min'}"


def _overview_text(record: StreamRecord) -> str:
    people = ", ".join(
        f"person {person.number} {clock(person.began)} to {clock(person.last)}" for person in record.people
    )
    return f"Who was seen when: {people}"


def _frames(record: StreamRecord) -> str:
    lost = f", {record.lost} dropped or unreadable" if record.lost else ""
    return f"{record.frames} labelled{lost}"
