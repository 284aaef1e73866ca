"""The canonical order of expression labels. It travels by name in checkpoints and manifests.

The order is AffectNet's (Mollahosseini et al., arXiv 1708.03985); seven-class sets drop contempt.
"""

from __future__ import annotations

from edgefel.errors import EdgefelError

EXPRESSIONS_8 = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
EXPRESSIONS_7 = EXPRESSIONS_8[:7]


def expression_labels(num_classes: int) -> tuple[str, ...]:
    """The canonical labels for 7 or 8 classes; raises EdgefelError for any other count."""
    if num_classes == 7:
        return EXPRESSIONS_7
    if num_classes == 8:
        return EXPRESSIONS_8
    raise EdgefelError(f"{num_classes} expression classes: the canonical label sets have 7 or 8")
