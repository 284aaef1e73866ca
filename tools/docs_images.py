"""Draws the images of docs/images that show a page or a stream. Pages need a Chromium and playwright.

\b
python tools/docs_images.py page docs/results/baseline-2core.jsonl --height 2300 -o docs/images/bench_report.png
python tools/docs_images.py page REPORT/report.html -o docs/images/evaluation_report.png
edgefel data video -o clip.mp4
edgefel run tests/bundles/nano-synthetic --source clip.mp4 --report report.html --thumbnails
python tools/docs_images.py page report.html --width 1000 --height 1480 -o docs/images/video_report.png
python tools/docs_images.py stream clip.mp4 edgefel/networks/fer-plus-nano --frame 150 -o docs/images/stream.jpg
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2

from edgefel.bench.report.page import render
from edgefel.bench.report.rows import collect
from edgefel.files.write import atomic_file
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.session import Session
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.overlay import draw
from edgefel.runtime.stream.pipeline import Stream, StreamOptions

PATH = click.Path(path_type=Path)
output = click.option("-o", "--output", type=PATH, required=True)


@click.group(help=__doc__, context_settings={"show_default": True})
def main() -> None:
    pass


@main.command()
@click.argument("results", nargs=-1, type=PATH, required=True)
@click.option("--width", default=1280, help="In pixels.")
@click.option("--height", default=1400, help="In pixels; 0: the whole page.")
@click.option("--dark", is_flag=True)
@click.option("--chromium", default="/usr/bin/chromium", type=PATH, help="The browser.")
@output
def page(
    results: tuple[Path, ...], width: int, height: int, dark: bool, chromium: Path, output: Path
) -> None:
    """The top of a page: of the given one, or of a report of the given rows of benches."""
    if not chromium.is_file():
        raise click.ClickException(f"{chromium}: no such browser; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size = {"width": width, "height": height or 1000}
        opened = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
        if results[0].suffix == ".html":
            opened.goto(results[0].absolute().as_uri())
        else:
            opened.set_content(render(collect(results)))
        with atomic_file(output) as temporary:
            opened.screenshot(path=temporary, full_page=not height)
        browser.close()


@main.command()
@click.argument("clip")
@click.argument("bundle", type=PATH)
@click.option("--frame", default=150, help="Its number in the clip.")
@output
def stream(clip: str, bundle: Path, frame: int, output: Path) -> None:
    """One frame of a labelled stream."""
    with Session.open(bundle) as session:
        options = StreamOptions(frames=frame + 1, detect_every=3)
        labelled = Stream(open_source(clip), HaarDetector(0.15), session, options)
        for result in labelled:
            last = result
    image = cv2.cvtColor(draw(last, None, labelled.dropped, labelled.backend), cv2.COLOR_RGB2BGR)
    with atomic_file(output) as temporary:
        if not cv2.imwrite(str(temporary), image, (cv2.IMWRITE_JPEG_QUALITY, 90)):
            raise click.ClickException(f"{output}: cannot be written; check the free space")


if __name__ == "__main__":
    main()
