"""Reads multipart/form-data (RFC 7578) from memory; nothing is written to a temporary file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgefel.serve.problems import Problem

_MOST_HEAD = 8192  # bytes of a part's headers
_BOUNDARY = re.compile(r"""boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))""", re.IGNORECASE)
_NAME = re.compile(r"""[;\s]name=(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;]+))""", re.IGNORECASE)
_FILENAME = re.compile(r"""[;\s]filename=(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;]+))""", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One field of a form. name, filename: as the client gave them; empty if it gave none."""

    name: str
    filename: str
    data: bytes


def read_multipart(content_type: str, body: bytes, most: int) -> list[Part]:
    """The parts in order. Raises Problem (400) for a body that does not have this form, (422) for more parts than
    `most`."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _bad("its Content-Type has no boundary")
    try:
        delimiter = b"\r\n--" + (found[1] or found[2]).encode("ascii")
    except UnicodeEncodeError:
        raise _bad("its boundary is not ASCII") from None
    # the first delimiter has no line before it, unless there is a preamble
    pieces = (b"\r\n" + body).split(delimiter, most + 2)
    if len(pieces) == 1:
        raise _bad("its boundary does not occur")
    parts: list[Part] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return parts
        if len(parts) == most:
            raise Problem(
                422, "too-many-images", f"The form has more than {most} parts; send fewer at a time."
            )
        parts.append(_part(piece))
    raise _bad("its end is missing")


def _part(piece: bytes) -> Part:
    transport, line_end, rest = piece.partition(b"\r\n")
    if not line_end or transport.strip(b" \t"):
        raise _bad("a boundary is not followed by a line's end")
    head, end, data = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if not end or len(head) > _MOST_HEAD:
        raise _bad("the headers of a part do not end")
    text = head.decode("utf-8", "replace")
    lines = [line for line in text.split("\r\n") if line.lower().startswith("content-disposition:")]
    if len(lines) != 1 or "form-data" not in lines[0].lower():
        raise _bad("a part has no Content-Disposition: form-data")
    return Part(_parameter(_NAME, lines[0]), _parameter(_FILENAME, lines[0]), data)


def _parameter(pattern: re.Pattern[str], line: str) -> str:
    found = pattern.search(line)
    if found is None:
        return ""
    quoted = found[1]
    return found[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def _bad(why: str) -> Problem:
    return Problem(400, "bad-form", f"The body is not multipart/form-data: {why}.")
