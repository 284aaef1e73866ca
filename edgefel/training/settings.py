"""What a setting is: a dataclass field with its help text and limits, checked and converted at construction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from edgefel.errors import EdgefelError

# constructor, accepted types and description, by the type of a setting
_KINDS: dict[str, tuple[Callable[[Any], Any], tuple[type, ...], str]] = {
    "bool": (bool, (bool,), "true or false"),
    "str": (str, (str, int), "text"),
    "int": (int, (int,), "a whole number"),
    "float": (float, (int, float, str), "a number"),
}


@dataclass(frozen=True)
class Limits:
    """What a setting means and which values it takes."""

    help: str
    minimum: float = -math.inf
    maximum: float = math.inf
    above: bool = False  # the minimum itself is not allowed
    choices: tuple[str, ...] = ()
    resumable: bool = False  # may change when a run is resumed: it does not alter what is learned


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with its limits."""
    return field(default=default, metadata={"limits": Limits(help, **limits)})


def check_fields(config: Any, section: str) -> None:
    """Checks types and limits, and converts integers (and YAML's "3e-4", a string) to floats."""
    for item in dataclasses.fields(config):
        limits = item.metadata.get("limits")
        if limits is None or item.name == "model_settings":
            continue
        name = f"{section}.{item.name}" if section else item.name
        value = _convert(getattr(config, item.name), str(item.type), name)
        object.__setattr__(config, item.name, value)
        if value is None:
            continue
        if limits.choices and value not in limits.choices:
            raise EdgefelError(f"{name} is {value!r}; choose one of {', '.join(limits.choices)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_range(value, limits, name)


def _convert(value: Any, kind: str, name: str) -> Any:
    kind, _, optional = kind.partition(" | ")
    if value is None and optional == "None":
        return None
    if kind.startswith("tuple"):
        items = [value] if isinstance(value, str) else value
        if isinstance(items, (list, tuple)) and all(isinstance(item, str) for item in items):
            return tuple(items)
        raise EdgefelError(f"{name} is {value!r}; it must be a list of texts")
    make, taken, expected = _KINDS[kind]
    if isinstance(value, taken) and (kind == "bool" or not isinstance(value, bool)):
        with suppress(ValueError, OverflowError):
            return make(value)
    raise EdgefelError(f"{name} is {value!r}; it must be {expected}")


def _check_range(value: float, limits: Limits, name: str) -> None:
    low = value <= limits.minimum if limits.above else value < limits.minimum
    if not math.isfinite(value) or low or value > limits.maximum:
        parts = []
        if limits.minimum > -math.inf:
            parts.append(f"{'more than' if limits.above else 'at least'} {limits.minimum:g}")
        if limits.maximum < math.inf:
            parts.append(f"at most {limits.maximum:g}")
        raise EdgefelError(f"{name} is {value}; it must be {' and '.join(parts) or 'finite'}")
