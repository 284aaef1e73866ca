"""What every page of a report has to hold in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# pairs of texts of one figure that lie on each other
_COVERED = """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll("text")].map((one) => [one.getBoundingClientRect(), one.textContent]);
  return boxes.flatMap(([a, name], index) => boxes.slice(index + 1)
    .filter(([b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([, other]) => [name, other]));
})"""


@contextmanager
def opened_page(browser: Any, file: Path) -> Iterator[Any]:
    """A page opened from its file; afterwards: no message on the console, no error, no request but the page's."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    opened.close()


def covered_labels(page: Any) -> list[list[str]]:
    """Pairs of texts of one figure that cover each other."""
    return page.evaluate(_COVERED)


def check_fits(page: Any, *widths: int) -> None:
    """Nothing reaches beyond the page, and it follows light and dark."""
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme, white in (("light", True), ("dark", False)):
        page.emulate_media(color_scheme=scheme)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == white
