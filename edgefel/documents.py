"""JSON, YAML and CSV files that anybody may have written: read within limits, or refused in one line."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import errno
import io
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TextIO, Union, get_args, get_origin, get_type_hints

from edgefel.errors import EdgefelError

# The largest documents that edgefel writes are truths of synthetic videos (some 10 MB) and calibration sets.
MOST_BYTES = 256 << 20
# PyYAML takes 50 us and 5 kB for each node, and a YAML file of ours has a page of settings.
MOST_YAML_BYTES = 1 << 18
MOST_YAML_NODES = 100_000
# Nested deeper than this, neither Python's parsers nor the code that walks through the values is sure to come back.
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


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file.

    Raises OSError whose `strerror` says what is there instead: a pipe would be waited for, a device never ends.
    """
    # before it is opened, since opening some devices has effects, and again after, since it may be replaced
    _check_regular(Path(path).stat().st_mode, path)
    handle = os.open(
        path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        _check_regular(os.fstat(handle).st_mode, path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Raises OSError for anything else, and for more than `most` bytes."""
    with open(open_regular(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:  # the second: files of /proc have no size, others may be growing
        raise OSError(errno.EFBIG, f"has more than {most >> 20} MiB", str(path))
    return data


def _check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    if not stat.S_ISREG(mode):
        what = next((name for test, name in kinds if test(mode)), "a device")
        raise OSError(errno.EINVAL, f"is {what}, not a regular file", str(path))


def native_path(path: str | os.PathLike[str]) -> str:
    """The path as libraries in C++ take it. Raises EdgefelError for one that is not UTF-8: OpenCV's bindings crash."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EdgefelError(
            f"{text}: its name is not UTF-8, as the libraries that open it need; rename it"
        ) from None
    return text


def reason(error: OSError) -> str:
    """What went wrong, without the number and the path."""
    return " ".join(str(error.strerror or error).split())


def read_text(path: str | os.PathLike[str], most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, or one of UTF-16 that says so by its byte order mark (Windows writes both).

    Raises EdgefelError, naming the file, for one that is missing, not regular, too large, or of another encoding.
    """
    try:
        return _decoded(read_regular(path, most)).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise EdgefelError(f"{path}: no such file") from None
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read ({reason(error)})") from None
    except UnicodeDecodeError as error:
        raise EdgefelError(
            f"{path}: cannot be read as UTF-8 text ({_position(error)}); save it as UTF-8"
        ) from None


def _decoded(data: bytes) -> str:
    return data.decode(_encoding(data))


def _encoding(head: bytes) -> str:
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _position(error: UnicodeDecodeError) -> str:
    return f"byte {error.start} is 0x{error.object[error.start]:02x}"


def read_json(path: str | os.PathLike[str], shape: Any = None) -> Any:
    """The value in a JSON file, checked by `check_shape`.

    Raises EdgefelError, naming the file, for one that is missing or is not strict JSON: NaN, infinities, names that
    occur twice in an object and numbers of more than MOST_DIGITS digits are refused.
    """
    return check_shape(parse_json(read_text(path), str(path)), shape, str(path))


def parse_json(text: str | bytes, where: str, shape: Any = None) -> Any:
    """The value of a JSON text; raises EdgefelError, beginning with `where`, as `read_json` does."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_real,
            object_pairs_hook=_object,
        )
        _check_depth(value)
    except UnicodeDecodeError as error:
        raise EdgefelError(f"{where}: not UTF-8 text ({_position(error)}); save it as UTF-8") from None
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


def _check_depth(value: Any) -> None:
    """Level by level, so that no depth overflows the stack. Raises RecursionError."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inner(outer)]
        if not level:
            return
    raise RecursionError


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The value in a YAML file. Raises EdgefelError, naming the file, for one that is missing or not valid."""
    return parse_yaml(read_text(path, MOST_YAML_BYTES), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text of plain values; raises EdgefelError, beginning with `where`.

    Aliases count as what they stand for, so that a page of them cannot stand for gigabytes.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _check_nodes(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise EdgefelError(f"{where}: not valid YAML (nested more than {MOST_DEPTH} deep)") from None
    # ValueError, TypeError and others: dates and numbers that match YAML's patterns and are none
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise EdgefelError(f"{where}: not valid YAML ({' '.join(str(error).split())[:400]})") from None


def _check_nodes(root: Any) -> None:
    """Raises RecursionError for nodes nested too deep (or within themselves), ValueError for too many of them."""
    level, total = [root], 0
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for node in level
            if node is not None and not isinstance(node.value, str)
            for inner in _nodes(node)
        ]
        total += len(level)
        if total > MOST_YAML_NODES:
            raise ValueError(f"more than {MOST_YAML_NODES} values, aliases counted as what they stand for")
        if not level:
            return
    raise RecursionError


def _nodes(node: Any) -> Iterable[Any]:
    return chain.from_iterable(node.value) if node.value and isinstance(node.value[0], tuple) else node.value


def check_shape(value: Any, shape: Any, where: str) -> Any:
    """`value`, if it has the types of `shape`; raises EdgefelError naming the first entry that has not.

    shape: None for anything; a type, or a tuple of types, one of them None where null is allowed (float takes whole
    numbers, nothing but bool takes true and false); `[shape]` for a list of such values; `{name: shape}` for an object
    with at least these names, those that end in "?" only if they are there and not null; `{str: shape}` for an object
    with any names.
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


def open_text(path: str | os.PathLike[str], errors: str = "strict") -> TextIO:
    """A regular file of UTF-8 or marked UTF-16 text, to be read line by line. Raises OSError."""
    raw = open(open_regular(path), "rb")  # noqa: SIM115 - closed with the stream of text
    return io.TextIOWrapper(raw, _encoding(raw.peek(2)[:2]), errors, newline="")


def check_fields(values: Any, cls: type, where: str, *, partial: bool = False) -> dict[str, Any]:
    """`values`, if they are an object whose names are fields of the dataclass and whose types are theirs.

    Fields that have a default may be missing; with `partial`, every field. Raises EdgefelError naming the first entry that does not fit.
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
    return dict(values)


def _shape_of(hint: Any) -> Any:
    """The shape that JSON gives a value of this type; None (anything) for what is no plain value."""
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


class CsvTable:
    """The rows of a CSV file while they are read. columns: the names in the first line, without blanks around them."""

    def __init__(self, path: Path, lines: Iterable[str], delimiter: str) -> None:
        self.path = path
        self._reader = csv.reader(lines, delimiter=delimiter)
        self.columns = [name.strip() for name in next(self._reader, [])]

    @property
    def line(self) -> int:
        """Number of the last line that was read, from 1."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        """The rows after the first line, blank ones left out."""
        return (row for row in self._reader if row)


@contextmanager
def open_csv(path: str | os.PathLike[str]) -> Iterator[CsvTable]:
    """A CSV file as spreadsheets write them: UTF-8 or marked UTF-16, any line ends; commas, or where the first line has
    none, semicolons or tabs.

    Raises EdgefelError, naming the file and line, also within the block: for one that is missing or not regular, of
    another encoding, with NUL characters, or with a cell that never ends (a quote that is not closed).
    """
    path = Path(path)
    table = None
    try:
        with open_text(path) as stream:
            first = stream.readline(1 << 20)
        with open_text(path) as stream:
            table = CsvTable(path, _lines(stream), _delimiter(first))
            yield table
    except FileNotFoundError:
        raise EdgefelError(f"{path}: no such file") from None
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read ({reason(error)})") from None
    except UnicodeDecodeError as error:
        raise EdgefelError(
            f"{path}: cannot be read as a UTF-8 CSV file ({_position(error)}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        line = f" line {table.line}" if table is not None else ""
        raise EdgefelError(
            f"{path}{line}: cannot be read as a CSV file ({error}); is a quote not closed?"
        ) from None


def _lines(stream: TextIO) -> Iterator[str]:
    for line in stream:
        # Python 3.10 takes them for an error, and later versions for text; in a file name or label they are neither
        if "\0" in line:
            raise csv.Error("line contains NUL")
        yield line


def _delimiter(first: str) -> str:
    return next((mark for mark in ",;\t" if mark in first), ",")
