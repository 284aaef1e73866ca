"""The docs as a site: built strictly, whole without a network, and readable where GitHub and the site differ."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get("EDGEFEL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as by `make site`; a warning fails it."""
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("the site needs edgefel[docs]")
    folder = tmp_path_factory.mktemp("site")
    # no proxy is at this address: what opens the network fails
    environment = os.environ | dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder


OPAQUE = ("article", "pre", "code", "script", "style", "h1", "h2", "h3", "h4", "h5", "h6")


class Page(HTMLParser):
    """What a page loads, its text outside headings and code, and the code's."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text, self.code = "", ""
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get("href") if tag == "link" and given.get("rel") != "canonical" else given.get("src")
        self.loaded += [address] if address else []
        if tag in OPAQUE:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if "code" in self._inside or "pre" in self._inside:
            self.code += data
        elif self._inside == ["article"]:
            self.text += data


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_no_page_loads_anything_from_outside(site, pages):
    outside = [
        (name, address)
        for name, page in pages.items()
        for address in page.loaded
        if re.match(r"(\w+:)?//", address)
    ]
    assert outside == []
    missing = [
        (name, address)
        for name, page in pages.items()
        for address in page.loaded
        if not address.startswith("data:") and name != "404.html"  # whose addresses are the server's
        if not (site / name).parent.joinpath(re.split(r"[?#]", address)[0]).is_file()
    ]
    assert missing == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//[^)\"']*", styles) == []


def test_nothing_is_left_in_markdown(pages):
    """What GitHub takes for a table, a list, a link or emphasis, and Python-Markdown does not."""
    left = [
        (name, match[0])
        for name, page in pages.items()
        for match in re.finditer(
            r"\|\s*:?-{3}.*|^(?:[-*]|\d+\.) .*|\]\(.*|\*\*.*|`.*|^:::.*", page.text, re.MULTILINE
        )
    ]
    assert left == []


def test_every_page_of_the_docs_is_there(site, pages):
    sources = (path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
    expected = {path.with_suffix(".html").as_posix() for path in sources}
    assert expected <= set(pages)
    assert {path.name for path in (ROOT / "docs/results").iterdir()} == {
        path.name for path in (site / "results").iterdir()
    }


def test_the_reference_has_docstrings_and_help(pages):
    assert "A bundle that is open and ready to label face crops." in pages["reference/runtime.html"].text
    assert "balanced_samples(" in pages["reference/calib.html"].code
    assert "Usage: edgefel bench latency [OPTIONS] [BUNDLE]" in pages["reference/cli.html"].code


@pytest.fixture
def opened(site) -> Iterator[Any]:
    """A page of the site from its file; afterwards: no message on the console, no request but to files."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(color_scheme="dark")
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda one: one.url.startswith(("file:", "data:")) or complaints.append(one.url))
        page.goto((site / "reference/runtime.html").as_uri())
        yield page
        browser.close()
    assert complaints == []


def test_search_and_colours_from_a_folder_on_disk(opened):
    assert opened.locator("body").get_attribute("data-md-color-scheme") == "slate"
    opened.emulate_media(color_scheme="light")
    opened.wait_for_function("document.body.dataset.mdColorScheme === 'default'")
    # key by key: the page listens to keys
    opened.locator("input.md-search__input").press_sequentially("percentile")
    opened.wait_for_selector(".md-search-result__item >> text=threshold")
