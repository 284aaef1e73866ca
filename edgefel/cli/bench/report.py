"""`edgefel bench report`: one page, or Markdown, of result rows."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.bench.report.headline import MOST_DROP
from edgefel.cli import params
from edgefel.errors import EdgefelError

PAGES, MARKDOWN = (".html", ".htm"), (".md", ".markdown")


@click.command("report")
@click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@params.output("Page (report.html), or Markdown (report.md).")
@click.option("--markdown", type=click.Path(path_type=Path), help="Markdown beside the page.")
@click.option(
    "--max-drop",
    type=params.FiniteRange(0, 100),
    default=MOST_DROP,
    show_default=True,
    help="Points of accuracy that the recommended file may be below the most accurate one.",
)
def command(results: tuple[Path, ...], output: Path, markdown: Path | None, max_drop: float) -> None:
    """One self-contained page of result rows, files or folders of *.jsonl.

    What to run on each device, sortable tables, latency against macro F1, stages, distributions, throughput, recall by
    class, and what it was measured on. The page loads nothing from anywhere. Of repeated measurements the newest is
    shown. Lines that are no rows are named, on stderr and on the page.

    \b
    Examples:
      edgefel bench report results.jsonl -o report.html
      edgefel bench report docs/results nightly.jsonl -o report.html --markdown report.md
    """
    from edgefel.bench.report import markdown as as_markdown
    from edgefel.bench.report import page
    from edgefel.bench.report.rows import collect
    from edgefel.text import counted

    if output.suffix.lower() not in PAGES + MARKDOWN:
        raise EdgefelError(f"{output}: neither a page nor Markdown; give a name that ends in .html or .md")
    if markdown is not None and markdown.suffix.lower() not in MARKDOWN:
        raise EdgefelError(f"{markdown}: --markdown writes Markdown; give a name that ends in .md")
    collection = collect(results)
    for line in collection.problems:
        click.echo(f"warning: {line}", err=True)
    render = page.render if output.suffix.lower() in PAGES else as_markdown.render
    texts = {output: render(collection, max_drop)}
    if markdown is not None:
        texts[markdown] = as_markdown.render(collection, max_drop)
    for path, text in texts.items():
        _write(path, text)
        rows, devices = counted(len(collection.rows), "row"), counted(len(collection.devices), "device")
        click.echo(f"{path}: {rows} of {devices}")


def _write(path: Path, text: str) -> None:
    from edgefel.files.write import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be written: {error.strerror}; choose another place") from None
