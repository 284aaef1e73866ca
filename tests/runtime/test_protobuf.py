"""Fields of protocol buffers, against onnx's own messages."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from edgefel.runtime.protobuf import BYTES, FIXED32, VARINT, field, fields


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 16_384, 2_100_000])
def test_a_field_of_any_length_is_read_back(size):
    data = field(25, b"x" * size) + field(1, b"end")
    (number, wire, start, stop), last = list(fields(data, 0, len(data)))
    assert (number, wire, stop - start) == (25, BYTES, size)
    assert data[last[2] : last[3]] == b"end"


def test_numbers_are_where_the_format_has_them():
    message = onnx.AttributeProto(name="scale", f=0.25, i=300)
    data = message.SerializeToString()
    found = {number: (wire, start, stop) for number, wire, start, stop in fields(data, 0, len(data))}
    assert found[3][:2] == (VARINT, 300)
    wire, start, stop = found[2]
    assert wire == FIXED32
    assert np.frombuffer(data[start:stop], "<f4") == [0.25]


def test_fields_cover_a_message_without_gaps():
    node = helper.make_node("Gather", ["table", "index"], ["out"], "scope/Gather", axis=0)
    data = node.SerializeToString()
    stops = [stop for *_, stop in fields(data, 0, len(data))]
    assert stops == sorted(stops)
    assert stops[-1] == len(data)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0f\x00", b"\xff" * 11])
def test_what_is_no_message_is_refused(data):
    with pytest.raises((IndexError, ValueError)):
        list(fields(data, 0, len(data)))
