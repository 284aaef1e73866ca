"""Numbers as people read them. What is missing is a dash."""

from __future__ import annotations

MISSING = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """So many significant digits, never scientific, thousands apart: "0.0123", "12.3", "1 230"."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - _magnitude(value))
    return f"{value:,.{decimals}f}".replace(",", " ")


def interval(ends: tuple[float, float] | None, like: float | None) -> str:
    """ "12.2–12.5", with as many decimals as `like`, the number it belongs to, has, or as tell the ends apart."""
    if ends is None or like is None:
        return ""
    decimals = max(0, 2 - _magnitude(like)) if like else 2
    texts: list[str] = []
    for more in range(3):
        texts = [f"{end:,.{decimals + more}f}".replace(",", " ") for end in ends]
        if texts[0] != texts[1]:
            break
    return "–".join(texts)


def percent(share: float | None, decimals: int = 1) -> str:
    """A share from 0 to 1 as "92.1 %"."""
    return MISSING if share is None else f"{100 * share:.{decimals}f} %"


def points(difference: float | None) -> str:
    """A difference of shares as "-0.4 points"."""
    return MISSING if difference is None else f"{100 * difference:+.1f} points"


def clock(seconds: float, decimals: int = 1) -> str:
    """A time of a recording: "0:12.3", "1:02:03.4". decimals: of the seconds."""
    units = round(seconds * 10**decimals)
    whole, rest = divmod(units, 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    fraction = f".{rest:0{decimals}d}" if decimals else ""
    return f"{hours}:{minute:02d}:{second:02d}{fraction}" if hours else f"{minute}:{second:02d}{fraction}"


def megabytes(count: float | None) -> str:
    """Bytes as MB of 10^6."""
    return MISSING if count is None else f"{significant(count / 1e6)} MB"


def times(value: float | None) -> str:
    """A ratio: "3.12×"."""
    return MISSING if value is None else f"{significant(value)}×"


def _magnitude(value: float) -> int:
    """The power of ten of the first digit, after rounding to three."""
    return int(f"{abs(value):.2e}".partition("e")[2])
