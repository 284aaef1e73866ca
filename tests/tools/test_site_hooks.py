"""How the site follows links out of docs/, and what becomes a page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs", reason="the site needs edgefel[docs]")

import site_hooks
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A repository with pages, and sources that link to each other."""
    for name, text in {
        "docs/page.md": "[1](other.md#there) [2](../tools/a/README.md) ![3](images/x.png) `[4](../hidden.md)`\n"
        "```\n[5](../hidden.md)\n```\n[6](https://example.org/../hidden.md) [7](../none.md) [8](#here) [9](look.ipynb)",
        "docs/other.md": "",
        "docs/images/x.png": "",
        "docs/look.ipynb": '{"cells": [{"cell_type": "markdown", "source": ["# Look\\n", "[1](page.md)"]}]}',
        "tools/a/README.md": "[1](../../docs/page.md#here) [2](deep.py) [3](../../docs/images/x.png) [4](README.md)",
        "tools/a/deep.py": "",
        "hidden.md": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(site_hooks, "ROOT", tmp_path)
    monkeypatch.setattr(site_hooks, "DOCS", tmp_path / "docs")
    return tmp_path


@pytest.fixture
def files(tree) -> Files:
    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(tree / "docs"), "site_dir": str(tree / "site")})
    config.validate()
    config.plugins._current_plugin = "site_hooks"
    docs = tree / "docs"
    found = sorted(path for path in docs.rglob("*") if path.is_file())
    listed = [File(path.relative_to(docs).as_posix(), str(docs), str(tree / "site"), False) for path in found]
    return site_hooks.on_files(Files(listed), config)


def turned(files: Files, uri: str) -> str:
    file = files.get_file_from_path(uri)
    return site_hooks.on_page_markdown(file.content_string, SimpleNamespace(file=file), files)


def test_what_pages_link_to_is_added(files):
    added = {file.src_uri for file in files if file.generated_by}
    assert added == {"repository/tools/a/README.md", "repository/tools/a/deep.py", "look.md"}
    assert files.get_file_from_path("repository/tools/a/README.md").is_documentation_page()


def test_links_lead_to_where_the_files_are_on_the_site(files):
    assert turned(files, "page.md") == (
        "[1](other.md#there) [2](repository/tools/a/README.md) ![3](images/x.png) `[4](../hidden.md)`\n"
        "```\n[5](../hidden.md)\n```\n[6](https://example.org/../hidden.md) [7](../none.md) [8](#here) [9](look.md)"
    )
    assert turned(files, "repository/tools/a/README.md") == (
        "[1](../../../page.md#here) [2](deep.py) [3](../../../images/x.png) [4](README.md)"
    )
    assert turned(files, "look.md") == "# Look\n[1](page.md)\n"


def test_help_takes_the_place_of_its_mark(files):
    page = SimpleNamespace(file=files.get_file_from_path("other.md"))
    markdown = site_hooks.on_page_markdown(f"# Commands\n\n{site_hooks.PLACE}\n", page, files)
    assert "### edgefel data\n\n```text\nUsage: edgefel data [OPTIONS] COMMAND" in markdown
