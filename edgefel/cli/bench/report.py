"""`edgefel bench report`: one page, or Markdown, of result rows."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.bench.report.headline import MOST_DROP
from edgefel.cli import params
from edgefel.cli.console import warn
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH
from edgefel.errors import EdgefelError

PAGES, MARKDOWN = (".html", ".htm"), (".md", ".markdown")


@click.command("report")
@click.argument("results", nargs=-1, required=True, type=PATH)
@params.output("Page (report.html), or Markdown (report.md).")
@click.option("--markdown", type=PATH, help="Markdown in addition to the page.")
@params.max_drop(
    "Maximum loss of accuracy of the recommended file, in points below the best one.", default=MOST_DROP
)
def command(results: tuple[Path, ...], output: Path, markdown: Path | None, max_drop: float) -> None:
    """One self-contained page of result rows, files or folders of *.jsonl.

    Shows what to run on each device, sortable tables, latency against macro F1, stages, distributions, throughput,
    recall by class, and the environment of the measurements. The page loads nothing from the network. Of repeated
    measurements the newest is shown. Invalid lines are named, on stderr and on the page.

    \b
    Examples:
      edgefel bench report results.jsonl -o report.html
      edgefel bench report docs/results nightly.jsonl -o report.html --markdown report.md
    """
    from edgefel.bench.report import markdown as as_markdown
    from edgefel.bench.report.rows import collect
    from edgefel.files.write import write_text
    from edgefel.text import counted

    if output.suffix.lower() not in PAGES + MARKDOWN:
        raise EdgefelError(f"{output}: neither a page nor Markdown; give a name that ends in .html or .md")
    if markdown is not None and markdown.suffix.lower() not in MARKDOWN:
        raise EdgefelError(f"{markdown}: --markdown writes Markdown; give a name that ends in .md")
    collection = collect(results)
    warn(*collection.problems)
    if output.suffix.lower() in PAGES:
        require("report", "a page of edgefel bench report", "jinja2", "matplotlib")
        from edgefel.bench.report.page import render
    else:
        render = as_markdown.render
    texts = {output: render(collection, max_drop)}
    if markdown is not None:
        texts[markdown] = as_markdown.render(collection, max_drop)
    for path, text in texts.items():
        try:
            write_text(path, text)
        except OSError as error:
            message = f"{path}: cannot be written: {error.strerror}; choose another place"
            raise EdgefelError(message) from None
        rows, devices = counted(len(collection.rows), "row"), counted(len(collection.devices), "device")
        click.echo(f"{path}: {rows} of {devices}")
