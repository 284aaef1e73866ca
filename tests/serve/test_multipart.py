"""Forms as clients send them, and broken ones."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefel.serve.multipart import Part, read_multipart
from edgefel.serve.problems import Problem

PLAIN = "multipart/form-data; boundary=x"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_what_a_client_sends_comes_back(contents):
    sent = [("image", (f"{number}.jpg", content)) for number, content in enumerate(contents)]
    request = httpx2.Request("POST", "http://x/", files=sent)
    parts = read_multipart(request.headers["content-type"], request.read(), 4)
    assert parts == [Part("image", f"{number}.jpg", content) for number, content in enumerate(contents)]


@given(st.binary(max_size=200))
def test_any_bytes_are_parts_or_a_problem(body):
    for content in (
        body,
        b"--x\r\n" + body,
        b"--x\r\nContent-Disposition: form-data\r\n\r\n" + body + b"\r\n--x--",
    ):
        try:
            read_multipart(PLAIN, content, 3)
        except Problem as problem:
            assert problem.status in (400, 422)  # noqa: PT017


def test_lines_inside_a_part_that_look_like_a_boundary_are_content():
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na--x\n--y\r\n--\r\n--x--\r\n'
    assert [part.data for part in read_multipart(PLAIN, body, 1)] == [b"a--x\n--y\r\n--"]


def test_preamble_epilogue_quotes_and_other_headers():
    body = (
        b"preamble\r\n--a b\r\nContent-Type: image/png\r\n"
        b'CONTENT-DISPOSITION: Form-Data; name="n\\"m"; filename="x;y.png"\r\n\r\nDATA\r\n--a b--epilogue'
    )
    assert read_multipart('multipart/form-data; boundary="a b"', body, 1) == [Part('n"m', "x;y.png", b"DATA")]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=\u00e4", b"--x--"),
        (PLAIN, b""),
        (PLAIN, b"--y--"),
        (PLAIN, b"--x\r\nContent-Disposition: form-data\r\n\r\nno end"),
        (PLAIN, b"--x\r\nContent-Disposition: form-data\r\n--x--"),
        (PLAIN, b"--x\r\n\r\nno header\r\n--x--"),
        (PLAIN, b"--xy\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"),
        (PLAIN, b"--x\r\nContent-Disposition: form-data\r\n" + b"A: b\r\n" * 2000 + b"\r\n\r\n--x--"),
    ],
)
def test_broken_forms(kind, body):
    with pytest.raises(Problem) as raised:
        read_multipart(kind, body, 5)
    assert (raised.value.status, raised.value.reason) == (400, "bad-form")


def test_too_many_parts_are_refused_without_reading_them():
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 5 + b"--x--"
    with pytest.raises(Problem) as raised:
        read_multipart(PLAIN, body, 4)
    assert raised.value.status == 422
    assert len(read_multipart(PLAIN, body, 5)) == 5
