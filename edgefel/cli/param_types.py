"""Types of values on the command line: finite numbers, lists with commas, sizes, shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgefel.errors import EdgefelError
from edgefel.files.remote import as_path, is_address


class _Path(click.Path):
    """A path on a disk; `remote`: or an address, which becomes an `Address`."""

    def __init__(self, *, remote: bool = False) -> None:
        super().__init__(path_type=Path)
        self._remote = remote

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            if self._remote:
                return as_path(value)
            options = (
                [other.name for other in ctx.command.params if isinstance(other, click.Option)] if ctx else []
            )
            if isinstance(param, click.Argument) and "source" in options:
                hint = "a stream to label goes to --source"
            else:
                hint = "docs/addresses.md says what need not be"
            raise EdgefelError(f"{value}: is an address, and this has to be on a disk; {hint}")
        return super().convert(value, param, ctx)


PATH = _Path()
PATH_OR_ADDRESS = _Path(remote=True)
POSITIVE = click.IntRange(min=1)


class FiniteRange(click.FloatRange):
    """A range of real numbers that refuses infinity and NaN, which click takes for a member of every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


# durations and rates
ABOVE_ZERO = FiniteRange(min=0, min_open=True)


class Parsed(click.ParamType):  # type: ignore[type-arg]  # subscriptable since click 8.4
    """A type by its parser, which raises ValueError with a message for text that it refuses.

    name: placeholder in help texts. known: names that the shell completes, in a list with commas.
    """

    def __init__(self, name: str, parse: Callable[[str], Any], known: Iterable[str] = ()) -> None:
        self.name = name
        self._parse, self._known = parse, known

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        left = [name for name in self._known if name not in before.split(",")]
        return [CompletionItem(before + comma + name) for name in left if name.startswith(last)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # converted already
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def name_list(known: Sequence[str] | None = None) -> Parsed:
    """Comma-separated names, each once: "fp32,int8" -> ("fp32", "int8"). known: the only names to accept."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(part.strip() for part in text.split(","))
        if not all(parts) or len(set(parts)) != len(parts):
            raise ValueError(f"{text!r}: give names with commas between them, each once")
        unknown = [part for part in parts if known is not None and part not in known]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(known or ())}")
        return parts

    return Parsed("NAMES" if known is None else f"[{','.join(known)}]", parse, known or ())


def _integers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    numbers = tuple(int(part) for part in parts if part.isdecimal())
    if len(numbers) != len(parts) or 0 in numbers or len(set(numbers)) != len(numbers):
        raise ValueError(f"{text!r}: give numbers of at least 1 with commas between them, each once")
    return numbers


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ValueError(f"{text!r} is not a size; give it as 640x480")
    return int(width), int(height)


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    percent = number != text.strip()
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not math.isfinite(share) or share < 0:
        raise ValueError(f"{text!r} is no share of at least 0; give it as 5% or 0.05")
    if share >= 1 and not percent:
        raise ValueError(f"{text!r} would be {share:.0%}; give it as {number}% if it is percent")
    return share


# integers of at least 1, each once: "1,8" -> (1, 8)
INTEGERS = Parsed("NUMBERS", _integers)
# pixels: "640x480" -> (width, height)
SIZE = Parsed("WxH", _size)
# "5%" or "0.05" -> 0.05; a number of 1 or more needs the percent sign
SHARE = Parsed("SHARE", _share)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`shell_complete` of an option whose text may be a file or folder."""
    return PATH.shell_complete(ctx, param, incomplete)


def suggested(names: Callable[[], Iterable[str]], *, or_files: bool = False) -> Callable[..., Any]:
    """`shell_complete` of an option or argument that takes one of these names, or a file as well; any text is accepted.

    names: called when the shell asks, so that it may import what knows them.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return found or (files(ctx, param, incomplete) if or_files else [])

    return complete


def joined(ctx: click.Context, param: click.Parameter, value: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Callback of a repeatable option of lists: the values of all, each once; empty if the option was not given."""
    return tuple(dict.fromkeys(item for items in value for item in items))
