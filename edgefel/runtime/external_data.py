"""Finds tensors that an ONNX file keeps in other files, which no hash of the file covers. Torch-free, without `onnx`.

The file is read as protocol buffers, of which only the fields on the way to tensors are looked at.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.runtime.protobuf import BYTES, VARINT, fields

# message -> number of a field -> message in it
_GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING, _ENTRY = range(1, 9)
_FIELDS: dict[int, dict[int, int]] = {
    0: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},  # the model
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _TENSOR: {13: _ENTRY},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def refuse_external_data(path: str | os.PathLike[str]) -> None:
    """Raises EdgefelError if a tensor of the ONNX file lies in another file.

    Such a file could be changed, or name any other on the machine, without a difference in this one. What is no ONNX
    file passes: whatever loads it says so. Source of the rule that nothing outside is loaded: docs/runtime.md.
    """
    path = Path(path)
    if (name := _first_external(path)) is not None:
        raise EdgefelError(
            f"{path}: keeps tensors in another file ({name!r}), which its hash does not cover; write it as one file: "
            "onnx.save(onnx.load(FILE), FILE)"
        )


def _first_external(path: Path) -> str | None:
    """The other file's name, as the first such tensor has it; None where there is none."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _search(data)
            except (IndexError, ValueError):  # no ONNX file, or a damaged one
                return None


def _search(data: mmap.mmap) -> str | None:
    messages = [(0, 0, len(data))]
    while messages:
        kind, start, end = messages.pop()
        for number, wire, value, stop in fields(data, start, end):
            if kind == _TENSOR and (number, wire) == (_DATA_LOCATION, VARINT) and value:
                return _location(data, start, end)
            if wire == BYTES and (inner := _FIELDS[kind].get(number)):
                if inner == _ENTRY:
                    return _location(data, start, end)
                messages.append((inner, value, stop))
    return None


def _location(data: mmap.mmap, start: int, end: int) -> str:
    """The entry "location" of a tensor's external data; empty if it has none."""
    for number, wire, value, stop in fields(data, start, end):
        if (number, wire) == (_EXTERNAL_DATA, BYTES):
            pair = {
                number: data[start:end]
                for number, wire, start, end in fields(data, value, stop)
                if wire == BYTES
            }
            if pair.get(1) == b"location":
                return pair.get(2, b"").decode(errors="replace")
    return ""
