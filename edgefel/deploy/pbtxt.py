"""Protocol buffers' text format, as far as a Triton model configuration needs it.

Not `google.protobuf.text_format`: it needs descriptors of the eleven messages and two enumerations in use, which are as
long as this file, and it writes fields by number. Tests parse the result with the published schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgefel.errors import EdgefelError


class Enum(str):
    """An enumeration's value: written without quotes."""


class Entries(dict[str, Any]):
    """A map field: every entry is written as a message `key`, `value`."""


def to_pbtxt(message: Mapping[str, Any]) -> str:
    """The message in text format, one field a line, in the order of `message`.

    Values are str, Enum, bool, int, mappings (messages), `Entries` (maps) and sequences of these (repeated
    fields; an empty one writes nothing). Raises EdgefelError for any other.
    Source: https://protobuf.dev/reference/protobuf/textformat-spec/
    """
    return "".join(f"{line}\n" for line in _message(message, ""))


def _message(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            yield from _field(name, value, indent)
        elif any(isinstance(item, Mapping) for item in value):
            for item in value:
                yield from _field(name, item, indent)
        elif value:
            yield f"{indent}{name}: [{', '.join(_scalar(name, item) for item in value)}]"


def _field(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Entries):
        for key, entry in value.items():
            yield from _field(name, {"key": key, "value": entry}, indent)
    elif isinstance(value, Mapping):
        yield f"{indent}{name} {{"
        yield from _message(value, indent + "  ")
        yield f"{indent}}}"
    else:
        yield f"{indent}{name}: {_scalar(name, value)}"


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    raise EdgefelError(f"configuration field {name}: {value!r} has no text format")


def _quoted(text: str) -> str:
    """In double quotes; what is not printable ASCII as octal escapes of its UTF-8 bytes, which all parsers read."""
    escapes = {ord('"'): '\\"', ord("\\"): "\\\\"}
    printable = range(0x20, 0x7F)
    return (
        '"'
        + "".join(
            escapes.get(byte, chr(byte) if byte in printable else f"\\{byte:03o}") for byte in text.encode()
        )
        + '"'
    )
