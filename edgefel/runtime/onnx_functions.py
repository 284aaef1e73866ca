"""Fused operators of an ONNX file: nodes of the domain `edgefel`, whose meaning is a function in the same file.

The function's body is the decomposed graph. ONNX Runtime and TensorRT's parser read such files as they are. OpenVINO
does not, and TensorRT loses the names of nodes in bodies, so both get `inlined` files; operators that a TensorRT plugin
computes stay, without their bodies. Works on the file's bytes, without the `onnx` package.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgefel.runtime.protobuf import BYTES, FIXED32, VARINT, field, fields

DOMAIN = "edgefel"
_GRAPH, _FUNCTION = 7, 25  # of the model
_GRAPH_NODE = 1
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7  # of a node
_BODY_NAME, _BODY_INPUT, _BODY_OUTPUT, _BODY_NODE, _BODY_DOMAIN = 1, 4, 5, 7, 10  # of a function
_KEY, _FLOAT, _INTEGER, _STRING = 1, 2, 3, 4  # of an attribute


@dataclass(frozen=True)
class FusedNode:
    """A node of the domain `edgefel`. attributes: its numbers and texts by name."""

    name: str
    operator: str
    attributes: Mapping[str, int | float | str]


def has_functions(path: Path) -> bool:
    """Whether an ONNX file has fused operators; reads no weights."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return any(number == _FUNCTION for number, *_ in fields(data, 0, len(data)))
            except (IndexError, ValueError):  # whatever loads it says so
                return False


def fused_nodes(model: bytes) -> list[FusedNode]:
    """The fused operators of an ONNX file, in its order. What is no ONNX file has none."""
    try:
        nodes = (node for graph in _parts(model, _GRAPH) for node in _parts(graph, _GRAPH_NODE))
        return [_described(node) for node in nodes if _fused(node)]
    except (IndexError, ValueError):  # whatever loads it says so
        return []


def inlined(model: bytes, keep: Collection[str] = ()) -> bytes:
    """The file with the body in the place of every fused operator, and no functions; itself where it has none.

    keep: operators that whatever reads the file knows itself, and that stay as they are. Names within a body get the
    node's name in front. Bodies hold plain operators, without subgraphs and references to the node's attributes.
    What is no ONNX file comes back as it is.
    """
    try:
        bodies = {_function_name(body): body for body in _parts(model, _FUNCTION)}
    except (IndexError, ValueError):  # whatever loads it says so
        return model
    if not bodies:
        return model

    def in_graph(number: int, raw: bytes, content: bytes) -> bytes:
        if number != _GRAPH_NODE or not _fused(content) or (name := _text(content, _OPERATOR)) in keep:
            return raw
        return b"".join(field(_GRAPH_NODE, node) for node in _expanded(content, bodies[name]))

    def in_model(number: int, raw: bytes, content: bytes) -> bytes:
        if number == _FUNCTION:
            return b""
        return field(_GRAPH, _rewritten(content, in_graph)) if number == _GRAPH else raw

    return _rewritten(model, in_model)


def _expanded(call: bytes, body: bytes) -> Iterator[bytes]:
    """The nodes of a body with the names that they have in the graph."""
    prefix = f"{_text(call, _NAME)}/".encode()
    formal = [*_parts(body, _BODY_INPUT), *_parts(body, _BODY_OUTPUT)]
    names = dict(zip(formal, [*_parts(call, _INPUT), *_parts(call, _OUTPUT)], strict=True))

    def renamed(number: int, raw: bytes, content: bytes) -> bytes:
        if number == _NAME:
            return field(number, prefix + content)
        if number not in (_INPUT, _OUTPUT) or not content:
            return raw
        return field(number, names.get(content, prefix + content))

    for node in _parts(body, _BODY_NODE):
        yield _rewritten(node, renamed)


def _rewritten(message: bytes, change: Callable[[int, bytes, bytes], bytes]) -> bytes:
    """The message with what `change(number, raw, content)` makes of each field; raw is the field with its tag."""
    out, start = [], 0
    for number, wire, value, stop in fields(message, 0, len(message)):
        raw = message[start:stop]
        out.append(change(number, raw, message[value:stop]) if wire == BYTES else raw)
        start = stop
    return b"".join(out)


def _parts(message: bytes, wanted: int) -> Iterator[bytes]:
    for number, wire, value, stop in fields(message, 0, len(message)):
        if number == wanted and wire == BYTES:
            yield message[value:stop]


def _text(message: bytes, number: int) -> str:
    return next(_parts(message, number), b"").decode()


def _fused(node: bytes) -> bool:
    return _text(node, _DOMAIN) == DOMAIN


def _function_name(body: bytes) -> str:
    return _text(body, _BODY_NAME) if _text(body, _BODY_DOMAIN) == DOMAIN else ""


def _described(node: bytes) -> FusedNode:
    attributes = dict(map(_attribute, _parts(node, _ATTRIBUTE)))
    return FusedNode(_text(node, _NAME), _text(node, _OPERATOR), attributes)


def _attribute(message: bytes) -> tuple[str, int | float | str]:
    value: int | float | str = ""
    for number, wire, start, stop in fields(message, 0, len(message)):
        if (number, wire) == (_FLOAT, FIXED32):
            value = struct.unpack("<f", message[start:stop])[0]
        elif (number, wire) == (_INTEGER, VARINT):
            value = start
        elif (number, wire) == (_STRING, BYTES):
            value = message[start:stop].decode()
    return _text(message, _KEY), value
