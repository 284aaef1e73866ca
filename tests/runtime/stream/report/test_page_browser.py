"""The page in a real browser: it loads nothing, complains of nothing, fits, and works by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import launching
from report_pages import check_fits, covered_labels, opened_page
from seen_people import LABELS

from edgefel.runtime.stream.report.page import About, render
from edgefel.runtime.stream.report.tables import page_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(record, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    about = About("a name without an end " * 4, "clip.mp4", LABELS, (0.3, 0.5), {"source": "clip.mp4 " * 30})
    path.write_text(render(record, about), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launching() as launch:
        yield launch()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    with opened_page(browser, report) as opened:
        yield opened


def test_it_fits_from_a_phone_to_a_wide_screen_in_light_and_dark(page):
    check_fits(page, 360, 640, 800, 1600)
    page.set_viewport_size({"width": 360, "height": 800})
    # a chart that is wider can be scrolled, also by keyboard
    chart = page.locator("figure .scroll").first
    assert chart.evaluate("one => one.scrollWidth > one.clientWidth && one.tabIndex === 0")


def test_labels_of_the_figures_do_not_cover_each_other(page):
    assert page.locator("svg").count() == 4
    assert covered_labels(page) == []


def test_every_image_is_decoded(page):
    sizes = page.eval_on_selector_all("img", "all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert sizes == [[96, 96]] * 6


def test_by_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Person 1"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#person-1"
    mark = page.locator("#person-1 svg .bar").nth(1)
    mark.focus()
    hint = page.locator("#hint")
    assert hint.inner_text() == "happiness, 0:04.0 to 0:07.0"
    page.keyboard.press("Escape")
    assert hint.is_hidden()
    details = page.locator("#person-1 details").nth(1)
    assert details.locator("table").is_hidden()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.locator("tbody tr:visible").count() == 3


def test_the_pointer_finds_blocks_below_the_areas(page):
    block = page.locator("#person-1 svg .bar").first
    block.scroll_into_view_if_needed()
    box = block.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"])
    assert page.locator("#hint").inner_text() == "neutral, 0:00.0 to 0:04.0"


def test_what_is_saved_are_segments_and_cuts(page, record):
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "segments.jsonl"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == page_rows(record)


def test_without_javascript_it_is_all_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("svg:visible").count() == 4
    page.locator("summary").first.click()
    assert page.locator("details[open] tbody tr:visible").count() == 4
    assert page.locator("button:visible, input:visible").count() == 0
    context.close()
