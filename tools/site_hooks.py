"""Hooks of mkdocs.yml: pages of docs/ link as on GitHub, to files beside docs/ too; notebooks and `--help` are pages.

A file that a page links to and that lies outside docs/ becomes part of the site, as repository/PATH; a Markdown file
becomes a page. Hooks by name: https://www.mkdocs.org/dev-guide/plugins/#events
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from check_types import lay_out
from cli_reference import PLACE, cli_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from notebook_page import notebook_page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_FENCED_OR_CODE = r"^```.*?^```$|`[^`\n]*`"
_LINK = re.compile(rf"(?P<code>{_FENCED_OR_CODE})|\]\((?P<path>[^()\s#:]+)", re.DOTALL | re.MULTILINE)

_laid_out = tempfile.TemporaryDirectory(prefix="edgefel-site-")


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> None:
    """Shows griffe, which reads sources without importing them, the packages where an installation has them."""
    if not any(Path(_laid_out.name).iterdir()):
        lay_out(Path(_laid_out.name))
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_laid_out.name]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of notebooks, and what pages link to outside docs/."""
    for notebook in sorted(DOCS.rglob("*.ipynb")):
        files.append(File.generated(config, site_uri(notebook), content=notebook_page(notebook)))
    pages = [Path(page.abs_src_path) for page in files.documentation_pages() if page.abs_src_path]
    for path in linked_outside(pages):
        added = File.generated(
            config, site_uri(path), abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV
        )
        files.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turns links between files of the repository into links between files of the site."""
    uri = page.file.src_uri
    here = ROOT / uri.removeprefix("repository/") if uri.startswith("repository/") else DOCS / uri

    def turned(link: re.Match[str]) -> str:
        target = here.parent / (link["path"] or "")
        if link["code"] or not target.is_file():
            return link[0]
        goal = site_uri(target)
        known = files.get_file_from_path(goal) is not None
        return f"]({os.path.relpath(goal, os.path.dirname(uri) or '.')}" if known else link[0]  # noqa: PTH120

    if PLACE in markdown:
        markdown = markdown.replace(PLACE, "\n\n".join(cli_reference()))
    return _LINK.sub(turned, markdown)


def linked_outside(pages: Iterable[Path]) -> list[Path]:
    """Files of the repository outside docs/ that these pages link to, and that those in turn link to."""
    found: dict[Path, None] = {}
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        if page.suffix != ".md":
            continue
        for link in _LINK.finditer(page.read_text(encoding="utf-8")):
            target = Path(os.path.normpath(page.parent / (link["path"] or "")))
            if (
                not link["code"]
                and target.is_file()
                and ROOT in target.parents
                and DOCS not in target.parents
            ):
                waiting += [target] if target not in found else []
                found[target] = None
    return sorted(found)


def site_uri(path: Path) -> str:
    """Where a file of the repository is in the site's sources."""
    path = Path(os.path.normpath(path))
    inside = path.relative_to(DOCS) if DOCS in path.parents else Path("repository", path.relative_to(ROOT))
    return (inside.with_suffix(".md") if inside.suffix == ".ipynb" else inside).as_posix()
