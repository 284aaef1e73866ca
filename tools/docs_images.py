"""Draws the images of docs/images that show a page or a stream. Pages need a Chromium and playwright.

python tools/docs_images.py page docs/results/baseline-2core.jsonl --height 2300 -o docs/images/bench_report.png
python tools/docs_images.py page REPORT/report.html -o docs/images/evaluation_report.png
edgefel data video -o clip.mp4
python tools/docs_images.py stream clip.mp4 tests/bundles/nano-synthetic --frame 150 -o docs/images/stream.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2

from edgefel.bench.report.page import render
from edgefel.bench.report.rows import collect
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.session import Session
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.overlay import draw
from edgefel.runtime.stream.pipeline import Stream, StreamOptions


def draw_page(chosen: argparse.Namespace) -> None:
    """The top of a page: of the given one, or of a report of the given rows."""
    if not Path(chosen.chromium).is_file():
        raise EdgefelError(f"{chosen.chromium}: no such browser; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chosen.chromium, args=["--no-sandbox"])
        size = {"width": chosen.width, "height": chosen.height or 1000}
        page = browser.new_page(viewport=size, color_scheme="dark" if chosen.dark else "light")
        if chosen.results[0].suffix == ".html":
            page.goto(chosen.results[0].absolute().as_uri())
        else:
            page.set_content(render(collect(chosen.results)))
        with atomic_file(chosen.output) as temporary:
            page.screenshot(path=temporary, full_page=not chosen.height)
        browser.close()


def draw_stream(chosen: argparse.Namespace) -> None:
    """One frame of a labelled stream."""
    with Session.open(chosen.bundle) as session:
        options = StreamOptions(frames=chosen.frame + 1, detect_every=3)
        stream = Stream(open_source(chosen.clip), HaarDetector(0.15), session, options)
        for result in stream:
            last = result
    image = cv2.cvtColor(draw(last, None, stream.dropped, stream.backend), cv2.COLOR_RGB2BGR)
    with atomic_file(chosen.output) as temporary:
        if not cv2.imwrite(str(temporary), image, (cv2.IMWRITE_JPEG_QUALITY, 90)):
            raise EdgefelError(f"{chosen.output}: cannot be written; check the free space")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    page = commands.add_parser("page", help=draw_page.__doc__)
    page.add_argument("results", nargs="+", type=Path, help="rows of benches, or one page")
    page.add_argument("--width", type=int, default=1280, help="px [%(default)s]")
    page.add_argument("--height", type=int, default=1400, help="px; 0: the whole page [%(default)s]")
    page.add_argument("--dark", action="store_true")
    page.add_argument("--chromium", default="/usr/bin/chromium", help="the browser [%(default)s]")
    page.set_defaults(draw=draw_page)
    stream = commands.add_parser("stream", help=draw_stream.__doc__)
    stream.add_argument("clip")
    stream.add_argument("bundle", type=Path)
    stream.add_argument("--frame", type=int, default=150, help="its number in the clip [%(default)s]")
    stream.set_defaults(draw=draw_stream)
    for command in (page, stream):
        command.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.draw(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
