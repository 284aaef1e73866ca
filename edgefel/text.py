"""Words of messages."""

from __future__ import annotations

import unicodedata


def counted(count: float, one: str, many: str | None = None) -> str:
    """ "1 row", "2 rows", "1.5 points"; `many` where the plural takes more than an s."""
    number = str(int(count)) if count == int(count) else f"{count:g}"
    return f"{number} {one if count == 1 else many or one + 's'}"


def one_line(error: object) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    """The text with control characters, which a terminal would obey, as escapes ("\\x1b"); line breaks stay."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs") and character != "\n"
        else character
        for character in text
    )
