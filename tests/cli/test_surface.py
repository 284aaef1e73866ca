"""Every command with its arguments and options is in surface.txt; `python tests/cli/test_surface.py` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edgefel.cli.main import main

LISTED = Path(__file__).with_name("surface.txt")


def surface(command: click.Command = main, name: str = "edgefel") -> Iterator[str]:
    """A line per command, followed by an indented line per parameter: names, type, default; no help texts."""
    with click.Context(command, info_name=name) as ctx:
        if isinstance(command, click.Group):
            for inner in command.list_commands(ctx):
                found = command.get_command(ctx, inner)
                assert found is not None, inner
                yield from surface(found, f"{name} {inner}")
            return
        yield name
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        arguments = [parameter for parameter in shown if isinstance(parameter, click.Argument)]
        options = [parameter for parameter in shown if isinstance(parameter, click.Option)]
        for argument in arguments:
            yield f"  {argument.make_metavar(ctx)}"
        yield from sorted(f"  {describe(option, ctx)}" for option in options)


def describe(option: click.Option, ctx: click.Context) -> str:
    names = "/".join(sorted(option.opts) + sorted(option.secondary_opts))
    marks = [] if option.is_flag else [option.make_metavar(ctx)]
    marks += ["required"] * option.required + ["repeatable"] * option.multiple
    default = option.to_info_dict()["default"]
    if default not in (None, False, ()):
        marks.append(f"default {default}")
    return " ".join([names, *marks])


def test_no_command_argument_or_option_changes_unnoticed():
    assert list(surface()) == LISTED.read_text().splitlines()


if __name__ == "__main__":
    LISTED.write_text("\n".join(surface()) + "\n")
