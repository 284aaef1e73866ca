"""Formats and sizes from the first bytes."""

from __future__ import annotations

import numpy as np
import pytest
from data.image_forms import FORMS, sized

from edgefel.data.image_headers import Header, read_header


@pytest.mark.parametrize("kind", sized(9, 9))
def test_kind_and_size_of_an_image(kind):
    header = read_header(sized(4001, 29)[kind])
    assert (header.kind, header.width, header.height, header.readable) == (kind, 4001, 29, True)


@pytest.mark.parametrize(
    ("form", "kind", "bits"),
    [
        ("16 bits", "PNG", 16),
        ("16 bits in TIFF", "TIFF", 16),
        ("real numbers to 1", "TIFF", 32),
        ("BMP", "BMP", 8),
    ],
)
def test_bits_of_a_channel(form, kind, bits):
    assert read_header(FORMS[form][0]) == Header(kind, 64, 48, bits)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x14ftypisom\0\0\0\0avc1heic", "video or HEIF"),  # a brand is in the first box or nowhere
        (b"\xff\x0a", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_formats_that_are_not_read_are_named(data, kind):
    assert read_header(data + bytes(20)) == Header(kind, 0, 0, readable=False)


def test_no_header_raises_anything():
    whole = [data for data, _ in FORMS.values()] + list(sized(7, 9).values())
    whole += [b"II+\0\x08\0\0\0" + b"\xff" * 60, b"MM\0*\xff\xff\xff\xff" + bytes(60)]
    rng = np.random.default_rng(0)
    for data in whole:
        for cut in (*range(64), *range(64, min(len(data), 600), 7)):
            read_header(data[:cut])
        for _ in range(100):
            spoilt = bytearray(data[:400])
            for place in rng.integers(0, len(spoilt), 4):
                spoilt[place] = int(rng.integers(0, 256))
            read_header(bytes(spoilt))
