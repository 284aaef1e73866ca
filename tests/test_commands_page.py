"""docs/commands.md names every command once, with an example; every command line of the docs is one of edgefel's."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import click
import pytest
from cli.test_surface import surface

from edgefel.cli.main import main

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {line for line in surface() if not line.startswith(" ")}


def lines_in(text: str) -> list[str]:
    """The lines of code blocks that call edgefel; of several commands, and of pipes, those that do."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r" (?:&&|\||>) ", line)]
    return [part for part in parts if part.startswith("edgefel ")]


def parse(line: str) -> str:
    """The command that a line calls. Raises click.UsageError where it, an option or a value is none of edgefel's."""
    words = shlex.split(line, comments=True)
    command, name, left = main, "edgefel", words[1:]
    with click.Context(main, info_name="edgefel") as ctx:
        while isinstance(command, click.Group):
            found = command.get_command(ctx, left[0]) if left and not left[0].startswith("-") else None
            if found is None:
                raise click.UsageError(f"{name}: no command {left[:1]}")
            command, name, left = found, f"{name} {left[0]}", left[1:]
        with command.make_context(name, left, parent=ctx):
            return name


def test_each_command_is_named_once_with_its_example():
    page = (ROOT / "docs/commands.md").read_text()
    examples = re.findall(r"`(edgefel [^`\n]+)`", page)
    called = Counter(map(parse, examples))
    assert set(called) == COMMANDS
    assert {name: count for name, count in called.items() if count > 1} == {}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_command_lines_of_a_page(page):
    for line in lines_in(page.read_text(encoding="utf-8")):
        try:
            parse(line)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_a_wrong_line_is_found():
    code = "cd x && edgefel run --souce 0 | jq\n$ edgefel bench\n  edgefel train \\\n --epochs ten  # all"
    text = f"```\n{code}\n```\nedgefel y\n"
    lines = lines_in(text)
    assert lines == ["edgefel run --souce 0", "edgefel bench", "edgefel train   --epochs ten  # all"]
    for line in lines:
        with pytest.raises(click.UsageError):
            parse(line)
