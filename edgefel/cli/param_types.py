"""Types of values on the command line: finite numbers, lists with commas, sizes, shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # subscriptable since click 8.4
    _ParamType = click.ParamType

PATH = click.Path(path_type=Path)
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


class NameList(_ParamType):
    """Comma-separated names, each once: "fp32,int8" -> ("fp32", "int8"). known: the only names to accept."""

    name = "names"

    def __init__(self, known: Sequence[str] | None = None) -> None:
        self._known = known

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        return f"[{','.join(self._known)}]" if self._known else None

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names) or len(set(names)) != len(names):
            self.fail(f"{value!r}: give names with commas between them, each once", param, ctx)
        unknown = [name for name in names if self._known is not None and name not in self._known]
        if unknown:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(self._known or ())}", param, ctx)
        return names


class IntegerList(_ParamType):
    """Comma-separated integers of at least 1, each once: "1,8" -> (1, 8)."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        numbers = tuple(int(part) for part in parts if part.isdecimal())
        if len(numbers) != len(parts) or 0 in numbers or len(set(numbers)) != len(numbers):
            message = f"{value!r}: give numbers of at least 1 with commas between them, each once"
            self.fail(message, param, ctx)
        return numbers


def joined(ctx: click.Context, param: click.Parameter, value: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Callback of a repeatable option of lists: the values of all, each once; empty if the option was not given."""
    return tuple(dict.fromkeys(item for items in value for item in items))


class Size(_ParamType):
    """A size in pixels: "640x480" -> (width, height)."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            self.fail(f"{value!r} is not a size; give it as 640x480", param, ctx)
        return int(width), int(height)


class Share(_ParamType):
    """A share: "5%" or "0.05" -> 0.05. A number of 1 or more needs the percent sign."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = math.nan
        if not math.isfinite(share) or share < 0:
            self.fail(f"{value!r} is no share of at least 0; give it as 5% or 0.05", param, ctx)
        if share >= 1 and not text.endswith("%"):
            self.fail(f"{value!r} would be {share:.0%}; give it as {text}% if it is percent", param, ctx)
        return share
