"""The page in a real browser: it loads nothing, complains of nothing, sorts, filters and fits."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import launching
from report_pages import check_fits, covered_labels, opened_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launching() as launch:
        yield launch()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    with opened_page(browser, report) as opened:
        yield opened


def column(page: Any, index: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#summary-0 tbody tr td:nth-child({index})",
        "cells => cells.map(cell => cell.firstChild.textContent.trim())",
    )


def test_a_click_on_a_header_sorts_by_it(page):
    headers = page.locator("#summary-0 thead th")
    titles = [title.strip() for title in headers.all_inner_texts()]
    index = titles.index("p50 (ms)")
    before = column(page, index + 1)
    header = headers.nth(index)
    assert header.get_attribute("aria-sort") is None
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    rising = [float(value.replace(" ", "")) for value in column(page, index + 1)]
    assert rising == sorted(rising)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, index + 1) != before
    assert [float(value.replace(" ", "")) for value in column(page, index + 1)] == rising[::-1]


def test_the_keyboard_sorts_and_what_is_missing_stays_last(page):
    headers = page.locator("#summary-0 thead th")
    titles = [title.strip() for title in headers.all_inner_texts()]
    index = titles.index("accuracy")
    headers.nth(index).locator("button").focus()
    for key, reverse in (("Enter", False), ("Space", True)):
        page.keyboard.press(key)
        values = column(page, index + 1)
        known = [float(value.removesuffix(" %")) for value in values if value != "–"]
        assert known == sorted(known, reverse=reverse)
        assert values[len(known) :] == ["–"] * (len(values) - len(known)) != []
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert headers.nth(index).get_attribute("aria-sort") is None
    assert headers.nth(index - 1).get_attribute("aria-sort") == "ascending"


def test_words_filter_rows(page):
    page.locator(".tools input").first.fill("INT8 openvino")
    shown = page.locator("#summary-0 tbody tr:visible")
    assert shown.count() == 2
    assert all("int8" in text and "openvino" in text for text in shown.all_inner_texts())
    assert page.locator(".tools output").first.inner_text() == "2 of 17 rows"
    page.locator(".tools input").first.fill("")
    assert page.locator("#summary-0 tbody tr:visible").count() == 17


def test_plots_have_axes_with_units(page):
    titles = page.eval_on_selector_all(
        "svg",
        "all => all.map(one => [...one.querySelectorAll('.axis-title')].map(t => t.textContent.trim()))",
    )
    assert len(titles) >= 8  # four on each of two devices
    assert all(found for found in titles)
    assert all(title.endswith(("(ms)", "(%)", "(images/s)")) for found in titles for title in found)


def test_labels_of_the_plots_do_not_cover_each_other(page):
    assert covered_labels(page) == []


def test_marks_tell_their_numbers(page):
    mark = page.locator("svg .dot").first
    mark.hover(force=True)
    hint = page.locator("#hint")
    assert hint.is_visible()
    assert "macro F1" in hint.inner_text()
    page.keyboard.press("Escape")
    assert hint.is_hidden()
    mark.focus()
    assert hint.is_visible()


def test_nothing_reaches_beyond_the_page_in_light_and_dark(page):
    check_fits(page, 400, 1280)


def test_a_hostile_name_is_only_a_name(page):
    assert page.title().startswith("Bench report: Intel")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("td", has_text="</script>").count() >= 1


def test_what_is_saved_are_the_rows(page, collection):
    with page.expect_download() as download:
        page.locator("#save").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [row.to_dict() for row in collection.rows]


def test_without_javascript_it_is_all_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("svg:visible").count() >= 8
    assert page.locator("#summary-0 tbody tr:visible").count() == 17
    # nothing to press that does nothing
    assert page.locator("button:visible, input:visible").count() == 0
    context.close()


def test_the_policy_lets_nothing_else_run(browser, report, tmp_path):
    """What the escaping is for, were it to fail: the browser itself refuses."""
    text = report.read_text(encoding="utf-8")
    broken = text.replace(
        "<header>", "<header><script>document.title = 'broken'</script><img src='http://127.0.0.1:9/x'>"
    )
    assert broken != text
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "broken.html").as_uri())
    assert page.title() != "broken"
    assert sum("Content Security Policy" in line for line in refused) == 2
    page.close()


def test_over_http_it_asks_for_nothing_else(browser, report):
    """A server would be asked for an icon, which a file is not."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(report.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/{report.name}")
        page.wait_for_load_state("networkidle")
        page.close()
    finally:
        server.shutdown()
        server.server_close()
    assert asked == [f"/{report.name}"]
