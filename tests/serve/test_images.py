"""Hostile images: refused with a reason, before they cost anything."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.serve.images import FORMATS, decode_image
from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem

LIMITS = Limits()
GRADIENT = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)[..., None].repeat(3, 2)


def encoded(suffix: str, image: np.ndarray = GRADIENT) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def refused(data: bytes, limits: Limits = LIMITS) -> tuple[int, str]:
    with pytest.raises(Problem) as raised:
        decode_image(data, limits)
    return raised.value.status, raised.value.reason


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_formats_that_are_read(suffix):
    assert decode_image(encoded(suffix), LIMITS).shape == (60, 80, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_every_cut_has_a_reason(suffix):
    whole = encoded(suffix)
    # the last bytes of some formats are padding
    for length in [*range(1, min(64, len(whole) - 16)), *range(64, len(whole) - 16, 97)]:
        assert refused(whole[:length])[0] in (415, 422)


def test_a_bomb_is_refused_by_its_header():
    bomb = png(30_000, 30_000, b"\0" * 1_000_000)
    assert len(bomb) < 10_000
    assert refused(bomb) == (413, "too-many-pixels")
    assert refused(encoded(".jpg"), Limits(pixels=60 * 80 - 1)) == (413, "too-many-pixels")


def test_a_header_that_promises_more_than_there_is():
    assert refused(png(4000, 4000, b"\0" * 100)) == (422, "unreadable-image")


def test_a_jpeg_of_endless_scans_is_refused():
    whole = encoded(".jpg")
    start = whole.rindex(b"\xff\xda")
    assert refused(whole[:start] + whole[start:-2] * 200 + whole[-2:]) == (422, "unreadable-image")


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (1, 20_000)])
def test_odd_shapes(size):
    assert refused(png(*size, b"\0" * 70_000))[0] == 422


def test_formats_that_are_not_read_are_named():
    with pytest.raises(Problem, match="TIFF") as raised:
        decode_image(encoded(".tiff"), LIMITS)
    assert raised.value.status == 415
    assert all(name in raised.value.detail for name in FORMATS)


@settings(deadline=None)
@given(st.data())
def test_changed_bytes_are_an_image_or_a_problem(data):
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".webp", ".bmp"]))
    content = bytearray(encoded(suffix))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(content), LIMITS)
    except Problem as problem:
        assert problem.status in (413, 415, 422)  # noqa: PT017
    else:
        assert image.dtype == np.uint8
