"""Files broken in the ways that files of real people are: by structure, by bytes, and by what lies in their place."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

# what stands where another value is expected
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, -(2**64), 10**30, 0.5, -0.0, 1e300, 1e-320),
    *(
        "",
        " ",
        "x",
        "neutral",
        "../../etc/passwd",
        "/dev/zero",
        "a\nb",
        "\u202e\u0000",
        "\ud800",
        "é" * 300,
        "9" * 50,
    ),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], ["a", "a"], {"x": {"y": []}}, list(range(1000))),
)
# pieces of text that no parser of Python's takes as it is
TEXTS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "[" * 200_000,
    '{"a":' * 5000,
    '"\\ud800"',
    "\x00",
    "\ufeff",
)
CELLS = (
    "",
    "NaN",
    "inf",
    "1e400",
    "-1",
    "9" * 60,
    "x" * 140_000,
    '"',
    '"a\nb',
    "\x00",
    "neutral",
    "../x.png",
    "é;ü",
    "0x10",
)


def mutate_json(document: Any, rng: random.Random) -> bytes:
    """One to three entries replaced, removed, doubled or nested; sometimes the text itself is spoilt."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        document = _mutate_value(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.15:
        text = _spoil_text(text, rng)
    if rng.random() < 0.03:
        return text.encode(rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")), "replace")
    return text.encode("utf-8", "surrogatepass")


def _mutate_value(document: Any, rng: random.Random) -> Any:
    places = list(_places(document))
    if not places or rng.random() < 0.02:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    how = rng.random()
    if how < 0.6:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif how < 0.75:
        del holder[key]
    elif how < 0.85 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif how < 0.9:
        holder[key] = [holder[key]]
    elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * rng.choice((-1, 2, 1000, 10**12))
    else:
        holder[key] = {"unknown": holder[key]}
    return document


def _places(value: Any) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _spoil_text(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    how = rng.random()
    if how < 0.4:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    if how < 0.6:
        return text[:at]
    return text[:at] + rng.choice('{}[]",:\\&*!%@`\t') + text[at + 1 :]


def mutate_lines(lines: list[Any], rng: random.Random) -> bytes:
    """JSON lines, one or two of them mutated, doubled or left out."""
    rows = [json.dumps(line).encode() for line in lines]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        how = rng.random()
        if how < 0.8:
            rows[at] = mutate_json(lines[at], rng)
        else:
            rows.insert(at, rng.choice((rows[at], b"", b"\x00", b"null", b"[]", b"{}")))
    return b"\n".join(rows) + b"\n"


def mutate_csv(text: str, rng: random.Random) -> bytes:
    """Cells and rows replaced, removed or doubled; other marks, line ends and encodings."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2))):
        row = rng.choice(rows)
        how = rng.random()
        if how < 0.5:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif how < 0.6:
            row.pop(rng.randrange(len(row))) if len(row) > 1 else row.append("x")
        elif how < 0.7:
            row.append(rng.choice(CELLS))
        elif how < 0.85:
            rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))
        elif len(rows) > 1:
            rows.remove(row)
    mark = rng.choice((",", ",", ",", ";", "\t", "|"))
    end = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
    encoding = rng.choice(("utf-8",) * 5 + ("utf-8-sig", "utf-16", "latin-1", "cp1252"))
    return end.join(mark.join(row) for row in rows).encode(encoding, "replace")


def mutate_text(text: str, rng: random.Random) -> bytes:
    """Lists, YAML and whatever has lines of words: words and lines replaced, or the text spoilt."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    how = rng.random()
    if how < 0.5:
        words[rng.randrange(len(words))] = rng.choice(
            (*CELLS, *TEXTS, "&a [*a]", "!!python/object:os.system x", "{", "- ")
        )
        lines[at] = " ".join(words)
    elif how < 0.7:
        lines.insert(at, rng.choice(lines))
    elif how < 0.8:
        del lines[at]
    else:
        return _spoil_text(text, rng).encode("utf-8", "surrogatepass")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes cut off, overwritten, inserted or repeated, as transfers and disks do it."""
    spoilt = bytearray(data)
    how = rng.random()
    at = rng.randrange(len(spoilt)) if spoilt else 0
    if how < 0.35:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            place = rng.randrange(min(len(spoilt), rng.choice((64, 512, len(spoilt)))))
            spoilt[place] ^= 1 << rng.randrange(8)
    elif how < 0.55:
        del spoilt[at:]
    elif how < 0.65:
        spoilt[at:] = bytes(len(spoilt) - at)
    elif how < 0.75:
        spoilt[at : at + 4] = rng.choice(
            (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xd9\xff\xda")
        )
    elif how < 0.85:
        spoilt[at:at] = rng.randbytes(rng.choice((1, 7, 300)))
    elif how < 0.93:
        start = rng.randrange(len(spoilt))
        spoilt[at:at] = spoilt[start : start + 400]
    else:
        return rng.randbytes(rng.choice((0, 1, 3, 100, 5000)))
    return bytes(spoilt)


Mutation = Callable[[Any, random.Random], bytes]
