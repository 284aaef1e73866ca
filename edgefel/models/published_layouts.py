"""Names in published checkpoints -> names in edgefel.

Each layout is a list of rules (pattern on a published key -> our key), and a list of patterns for entries
that exist in such files and are never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable

LAYOUTS = ("poster-v2", "arbex", "ir50", "mobilefacenet")

Replacement = Callable[[re.Match[str]], str]
Rule = tuple[str, Replacement]


def _to(template: str) -> Replacement:
    """A replacement by `{0}`, `{1}`... for the groups; `{0-1}` and `{0+1}` shift a number by one."""

    def replace(match: re.Match[str]) -> str:
        def field(found: re.Match[str]) -> str:
            value, shift = match.group(int(found.group(1)) + 1), found.group(2)
            return str(int(value) + int(shift)) if shift else value

        return re.sub(r"\{(\d)([+-]\d)?\}", field, template)

    return replace


# MobileFaceNet as in the POSTER++ repository: every stage is a down-sampling block and a run of residual ones
_DEPTHWISE
