"""Draws the top of a report: docs/images/bench_report.png and evaluation_report.png. Needs a Chromium and playwright.

python tools/report_picture.py docs/results/baseline-2core.jsonl -o docs/images/bench_report.png
python tools/report_picture.py REPORT/report.html -o docs/images/evaluation_report.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgefel.bench.report.page import render
from edgefel.bench.report.rows import collect
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="rows of benches, or one page")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--width", type=int, default=1280, help="px [%(default)s]")
    parser.add_argument("--height", type=int, default=1400, help="px; 0: the whole page [%(default)s]")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser [%(default)s]")
    chosen = parser.parse_args()
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
