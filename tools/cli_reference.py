"""The page of all commands: what `--help` prints, command by command."""

from __future__ import annotations

from collections.abc import Iterator

import click

from edgefel.cli.main import main

PLACE = "<!-- help of every command -->"
_WIDTH = 80  # characters of a line


def cli_reference(command: click.Command = main, name: str = "edgefel", level: int = 2) -> Iterator[str]:
    """Markdown of a command and those below it, part by part: a heading, and its help in a block."""
    with click.Context(
        command, info_name=name, max_content_width=_WIDTH, terminal_width=_WIDTH, **command.context_settings
    ) as ctx:
        yield f"{'#' * level} {name}"
        yield f"```text\n{command.get_help(ctx)}\n```"
        if isinstance(command, click.Group):
            for inner in command.list_commands(ctx):
                found = command.get_command(ctx, inner)
                assert found is not None, inner
                yield from cli_reference(found, f"{name} {inner}", min(level + 1, 4))
