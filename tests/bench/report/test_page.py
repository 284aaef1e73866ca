"""The page as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from bench_rows import compared, row

from edgefel.bench.report import page
from edgefel.bench.report.rows import Collection

VOID = ("meta", "link", "input")


class Reader(HTMLParser):
    """Checks that elements are closed in turn; keeps tags and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")
        ]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_whole_and_refers_to_nothing_outside(report: Path):
    text = report.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    within = {link for link in reader.links if link.startswith("#")}
    assert within <= {f"#{name}" for name in reader.ids}
    assert within >= {"#device-0", "#device-1"}
    assert set(reader.links) - within == {"data:,"}
    assert {"img", "iframe", "object", "embed", "form"}.isdisjoint(reader.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text


def test_the_rows_are_in_it(report: Path, collection: Collection):
    embedded = re.search(
        r'<script type="application/json" id="rows">(.*?)</script>', report.read_text(encoding="utf-8")
    )
    assert [row.to_dict() for row in collection.rows] == json.loads(embedded.group(1))


def test_every_part_is_there(report: Path):
    text = report.read_text(encoding="utf-8")
    for title in (
        "Summary",
        "Stages",
        "Distribution",
        "Throughput",
        "Recall by class",
        "Training",
        "Data path",
        "Profile",
        "Experiments",
        "Roofline",
        "Environment",
    ):
        assert text.count(f"<h3>{title}</h3>") == 2, title
    assert text.count("A bound, not a measurement.") == 2
    assert "openvino 48.5 %" in text  # share of the bound
    assert "1 older one not" in text
    assert "results.jsonl, line 75: not a line of JSON" in text
    assert "edgefel bench throughput -o results.jsonl" in text
    assert text.count('<tr class="best">') == 2


def test_a_device_has_only_what_was_measured_on_it():
    text = page.render(Collection((row("train", {"model": "arbex"}, {"images_per_s": 3.0}),), ()))
    assert "<h3>Training</h3>" in text
    assert "<h3>Environment</h3>" in text
    assert not any(f"<h3>{title}</h3>" in text for title in ("Summary", "Throughput", "Roofline", "Stages"))


def test_differing_versions_are_all_listed():
    rows = (
        row(versions={"torch": "2.12.0", "onnxruntime": "1.31.1"}),
        row(subject={"model": "other"}, versions={"torch": "2.13.0", "onnxruntime": "1.31.1"}),
    )
    text = page.render(Collection(rows, ()))
    assert "2.12.0, 2.13.0 <small>differs between rows</small>" in text
    assert text.count("differs between rows") == 1


def test_the_worst_class_stands_out():
    found = compared(5.0, recall={"happiness": 0.9, "fear": 0.5, "anger": None})
    text = page.render(Collection((row(metrics=found),), ()))
    assert '<td class="n strong" data-order="0.5">50.0 %</td>' in text
    assert '<td class="n" data-order="0.9">90.0 %</td>' in text
    assert ">fear</td>" in text
