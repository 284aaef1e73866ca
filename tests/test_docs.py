"""The pages are short, their links lead somewhere, and their words are the project's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "kernels").rglob("*.md"))]

FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
# the generators of the tables have their own tests
GENERATED = re.compile(r"<!-- (results|compiled)\b.*?<!-- end of \1\b.*?-->", flags=re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")

BANNED = (
    "picture",  # image
    "obstacle",  # unavailable_reason
    "strangers",
    "asks nobody",
    "for want of",
    "two fives",
    "is said",
    "that is elsewhere",
    "cannot go below",
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", FENCED.sub("", text), flags=re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = found.get(anchor, 0)
        found[anchor] = count + 1
        if count:
            found[f"{anchor}-{count}"] = 1
    return set(found)


def broken_links(page: Path) -> list[str]:
    """The relative links of a page without a file, or without a heading of that anchor in it."""
    broken = []
    for link in LINK.findall(CODE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_under_150_lines(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_words_of_the_project(page):
    text = page.read_text(encoding="utf-8")
    for left_out in (GENERATED, FENCED, CODE):
        text = left_out.sub("", text)
    prose = " ".join(text.split()).lower()
    assert [phrase for phrase in BANNED if phrase in prose] == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text(
        "# A `b`, c: d_e\n## Twice\n## Twice\n```\n# code\n```\n", encoding="utf-8"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[1](other.md#a-b-c-d_e) [2](other.md#twice-1) [3](#here) [4](https://example.org/#x) `[5](none.md)`\n"
        "[6](none.md) [7](other.md#code) [8](other.md#twice-2) [9](#there)\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["none.md", "other.md#code", "other.md#twice-2", "#there"]
