"""Untrusted JSON and YAML: read within limits and checked for types; else an error in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from edgefel.errors import EdgefelError
from edgefel.files.read import decoded, position, read_regular, read_text, reading

# PyYAML takes 50 us and 5 kB for each node, and a YAML file of ours has a page of settings.
MOST_YAML_BYTES = 1 << 18
MOST_YAML_NODES = 100_000
# Deeper nesting can overflow the stack of Python's parsers and of code that walks through the values.
MOST_DEPTH = 100
# Digits of an integer: 128 bits have 39, and Python refuses to print more than 4300.
MOST_DIGITS = 40
_SHOWN = 80

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def read_json(path: str | os.PathLike[str], shape: Any = None) -> Any:
    """The value in a JSON file, checked by `check_shape`.

    Raises EdgefelError, naming the file, for one that is missing or is not strict JSON: NaN, infinities, names that
    occur twice in an object and numbers of more than MOST_DIGITS digits are refused.
    """
    with reading(path):
        data = read_regular(path)
    return parse_json(data, str(path), shape)


def parse_json(text: str | bytes, where: str, shape: Any = None) -> Any:
    """The value of a JSON text; raises EdgefelError, beginning with `where`, as `read_json` does."""
    try:
        if isinstance(text, bytes):
            text = decoded(text)
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_real,
            object_pairs_hook=_object,
        )
        _check_nesting(value, _items)
    except UnicodeDecodeError as error:
        raise EdgefelError(f"{where}: not valid JSON (not UTF-8 text: {position(error)})") from None
    except RecursionError:
        raise EdgefelError(f"{where}: not valid JSON (nested more than {MOST_DEPTH} deep)") from None
    except ValueError as error:
        raise EdgefelError(f"{where}: not valid JSON ({error})") from None
    return check_shape(value, shape, where)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_SHOWN]} is out of range")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} occurs twice in an object")
    return found


def _check_nesting(root: Any, inner: Callable[[Any], Iterable[Any]], most: float = math.inf) -> None:
    """Raises RecursionError for values nested too deep (or within themselves), ValueError for more than `most`.

    Level by level, so that no depth overflows the stack. inner: the values that a value holds.
    """
    level, total = [root], 0
    for _ in range(MOST_DEPTH):
        level = [item for value in level for item in inner(value)]
        total += len(level)
        if total > most:
            raise ValueError(f"more than {most} values, aliases counted as what they stand for")
        if not level:
            return
    raise RecursionError


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The value in a YAML file. Raises EdgefelError, naming the file, for one that is missing or not valid."""
    return parse_yaml(read_text(path, MOST_YAML_BYTES), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text of plain values; raises EdgefelError, beginning with `where`.

    Aliases count as the nodes they stand for, so that a page of them cannot expand to gigabytes.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _check_nesting(node, _nodes, MOST_YAML_NODES)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise EdgefelError(f"{where}: not valid YAML (nested more than {MOST_DEPTH} deep)") from None
    # ValueError, TypeError and others: invalid dates and numbers that match YAML's patterns
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise EdgefelError(f"{where}: not valid YAML ({' '.join(str(error).split())[:400]})") from None


def _nodes(node: Any) -> Iterable[Any]:
    if node is None or isinstance(node.value, str):
        return ()
    return chain.from_iterable(node.value) if node.value and isinstance(node.value[0], tuple) else node.value


def check_shape(value: Any, shape: Any, where: str) -> Any:
    """Returns `value` if it has the types of `shape`; raises EdgefelError naming the first entry that doesn't.

    shape: None for anything; a type, or a tuple of types, one of them None where null is allowed (float accepts whole
    numbers, only bool accepts true and false); `[shape]` for a list of such values; `{name: shape}` for an object with
    at least these names, where those that end in "?" may be missing or null; `{str: shape}` for an object with any
    names.
    """
    _check(value, shape, where, "")
    return value


def _check(value: Any, shape: Any, where: str, entry: str) -> None:
    if shape is None:
        return
    if isinstance(shape, dict):
        _check_type(value, (dict,), where, entry)
        _check_object(value, shape, where, entry)
    elif isinstance(shape, list):
        if not isinstance(value, tuple):  # in dataclasses, not in JSON
            _check_type(value, (list,), where, entry)
        for number, item in enumerate(value):
            _check(item, shape[0], where, f"{entry}[{number}]")
    else:
        _check_type(value, shape if isinstance(shape, tuple) else (shape,), where, entry)


def _check_object(value: dict[str, Any], shape: dict[Any, Any], where: str, entry: str) -> None:
    prefix = f"{entry}." if entry else ""
    for name, inner in shape.items():
        if name is str:
            for key, item in value.items():
                _check(item, inner, where, f"{prefix}{_short(key)}")
            continue
        known = name.removesuffix("?")
        if known != name and value.get(known) is None:
            continue
        if known not in value:
            raise EdgefelError(f"{where}: lacks {prefix}{known}")
        _check(value[known], inner, where, prefix + known)


def _check_type(value: Any, kinds: tuple[type | None, ...], where: str, entry: str) -> None:
    if isinstance(value, bool):
        right = bool in kinds
    else:
        right = any(
            value is None if kind is None else isinstance(value, (int, float) if kind is float else kind)
            for kind in kinds
        )
    if not right:
        wanted = " or ".join("null" if kind is None else _KINDS[kind] for kind in kinds)
        raise EdgefelError(f"{where}: {entry or 'the whole'} is {_short(value)}, not {wanted}")


def _short(value: Any) -> str:
    text = (
        json.dumps(value)
        if isinstance(value, str | int | float | bool | None)
        else _KINDS.get(type(value), "something else")
    )
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def check_fields(values: Any, cls: type, where: str, *, partial: bool = False) -> dict[str, Any]:
    """Returns `values` if they are an object with the names and types of the dataclass's fields.

    Fields with a default may be missing; with `partial`, every field. Raises EdgefelError naming the first entry that
    does not fit.
    """
    _check_type(values, (dict,), where, "")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields)):
        raise EdgefelError(f"{where}: unknown entries {unknown} for {cls.__name__}; known: {sorted(fields)}")
    hints = get_type_hints(cls)
    needed = {
        name
        for name, field in fields.items()
        if not partial
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    }
    shape = {name: _shape_of(hints[name]) for name in fields if name in needed or name in values}
    _check_object(values, shape, where, "")
    for name, value in values.items():
        sizes = get_args(hints[name]) if get_origin(hints[name]) is tuple else (...,)
        if ... not in sizes and len(value) != len(sizes):
            raise EdgefelError(f"{where}: {name} has {len(value)} values, not {len(sizes)}")
    return dict(values)


def _shape_of(hint: Any) -> Any:
    """The shape of a value of this type in JSON; None (anything) for a type that is not plain."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return tuple({type(value) for value in inner})
    if origin in (Union, UnionType):
        shapes = [None if kind is NoneType else _shape_of(kind) for kind in inner]
        plain = all(
            isinstance(shape, type) or kind is NoneType for shape, kind in zip(shapes, inner, strict=True)
        )
        return tuple(shapes) if plain else None
    if origin in (list, tuple):
        return [_shape_of(inner[0])]
    if origin in (dict, Mapping):
        return dict
    return hint if hint in (int, float, str, bool, dict, list) else None
