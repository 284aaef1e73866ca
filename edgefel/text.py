"""Words of messages."""

from __future__ import annotations

import re
import unicodedata


def counted(count: float, one: str, many: str | None = None) -> str:
    """ "1 row", "2 rows", "1.5 points"; `many` where the plural takes more than an s."""
    number = str(int(count)) if count == int(count) else f"{count:g}"
    return f"{number} {one if count == 1 else many or one + 's'}"


def one_line(error: object) -> str:
    """The text of an error without its line breaks."""
    return " ".join(str(error).split())


def printable(text: str, *, lines: bool = True) -> str:
    """The text with control and format characters as escapes ("\\x1b"), so that a terminal does not act on them.

    lines: keep line breaks.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs" or (lines and character == "\n")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def without_password(url: str) -> str:
    """A URL without user and password, for messages and logs.

    A password is left out too where its special characters are not percent-encoded, as they should be.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif not re.fullmatch(
        r"(\[[^]]*\]|[^:]*)(:\d*)?", authority
    ):  # no host and port: a user and part of a password
        rest = rest[rest.rfind("@") + 1 :]
    return f"{scheme}{separator}{rest}"
