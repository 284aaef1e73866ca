"""The page: complete, escaped, and its data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from seen_people import LABELS, played

from edgefel.runtime.stream.report import record as record_module
from edgefel.runtime.stream.report.page import About, render
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.tables import page_rows

ABOUT = About("clip.mp4", "clip.mp4 (160x120)", LABELS, (0.3, 0.5), {"network": "nano <fp32> & more"})


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(text: str) -> list[dict]:
    (found,) = re.findall(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


@pytest.fixture(scope="module")
def text(record) -> str:
    return render(record, ABOUT)


def test_it_says_what_was_seen(text):
    assert "<title>Report: clip.mp4</title>" in text
    assert (
        "3 people in 20.0 s, at most 2 at a time; 3 changes of label; unsure 10 % of the time; "
        "1 cut, after which everyone is a new person." in text
    )
    assert "0:00.0 to 0:10.0; neutral 40 %, happiness 30 %, unsure 30 %; 2 changes of label." in text
    assert "network: nano &lt;fp32&gt; &amp; more" in text
    assert "frames: 200 labelled" in text


def test_every_figure_has_words_and_tables_and_every_image_a_text(text):
    page = Page(text)
    assert [one["aria-label"] for one in page.all("svg")] == [
        "Who was seen when: person 1 0:00.0 to 0:10.0, person 2 0:01.0 to 0:10.0, person 3 0:10.0 to 0:20.0",
        "Person 1 over time: neutral 40 %, happiness 30 %, unsure 30 %",
        "Person 2 over time: anger 100 %",
        "Person 3 over time: neutral 60 %, happiness 40 %",
    ]
    assert len(page.all("table")) == 7
    assert len(page.all("caption")) == 7
    assert [one["id"] for one in page.all("section") if "id" in one] == ["person-1", "person-2", "person-3"]
    assert [one["href"] for one in page.all("a")] == ["#person-1", "#person-2", "#person-3"]
    images = page.all("img")
    assert [one["alt"] for one in images][:3] == [
        "Person 1 at 0:00.0, neutral",
        "Person 1 at 0:04.0, happiness",
        "Person 1 at 0:07.0, unsure",
    ]
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in images)


def test_thresholds_are_lines_in_the_figures(text, record):
    """Two for each of three people."""
    without = render(record, replace(ABOUT, thresholds=(0.0, 0.0)))
    assert text.count("<path") == without.count("<path") + 6


def test_its_data_are_all_segments_and_cuts(text, record):
    assert data_of(text) == page_rows(record)


def test_hostile_names_stay_names():
    labels = ("<i>joy</i>", "</script><b>", "$x_1$")
    record = StreamRecord(labels)
    about = About("<h1>.mp4", "</script><img src=x>", labels, made_of={"<b>": "</pre>"})
    for result in played([[(0, 2, "neutral")]], 2):
        # the faces of the script, with other class names
        faces = tuple(_renamed(face, labels) for face in result.faces)
        record.add(type(result)(result.frame, faces, 0.0, 10.0, "x"))
    record.close()
    text = render(record, about)
    page = Page(text)
    assert not page.all("i")
    assert not page.all("b")
    assert not page.all("img")
    assert len(page.all("h1")) == 1
    assert len(page.all("script")) == 2
    assert data_of(text)[0]["label"] == "<i>joy</i>"


def _renamed(face, labels):
    from seen_people import tracked

    from edgefel.runtime.labelling import labelled_face
    from edgefel.runtime.stream.frames import TrackedFace

    shares = list(tracked(1, "neutral").probabilities.values())
    named = labelled_face(face.box, labels, shares, shares, 0.6, 0.9)
    return TrackedFace(face.track, named, True, 0.0, named)


def test_nobody_was_seen():
    record = StreamRecord(LABELS)
    for result in played([], 3):
        record.add(result)
    record.close()
    text = render(record, ABOUT)
    assert "No face was followed in 3.0 s." in text
    assert "How to read it" not in text
    assert not Page(text).all("svg")


def test_people_who_are_left_out_are_counted(monkeypatch):
    monkeypatch.setattr(record_module, "MOST_PEOPLE", 1)
    record = StreamRecord(LABELS)
    scripts = [[(0, 200, "anger")], [(10, 11.5, "neutral"), (11.5, 12, "unsure")], [(20, 21, "anger")]]
    for result in played(scripts, 200, fps=5):
        record.add(result)
    record.close()
    text = render(record, ABOUT)
    assert "3 people in 3:20 min" in text
    # of all of them, not only of the one that is shown
    assert "1 change of label; unsure 0 % of the time" in text
    assert "2 others, seen for\n3.0 s in all, are in the CSV file only." in text
    assert not Page(text).all("nav")
