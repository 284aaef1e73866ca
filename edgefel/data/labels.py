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

# The order of RAF-DB's label files (Li et al., CVPR 2017), which models trained on it keep.
RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")

# The names that public data sets give the same classes.
_ALIASES = {
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "afraid": "fear",
    "fearful": "fear",
    "disgusted": "disgust",
    "angry": "anger",
}


def expression_labels(num_classes: int) -> tuple[str, ...]:
    """The canonical labels for 7 or 8 classes; raises EdgefelError for any other count."""
    if num_classes == 7:
        return EXPRESSIONS_7
    if num_classes == 8:
        return EXPRESSIONS_8
    raise EdgefelError(f"{num_classes} expression classes: the canonical label sets have 7 or 8")


def canonical_label(name: str) -> str | None:
    """The canonical name for `name` (any case, or a usual synonym such as "happy"), or None."""
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in EXPRESSIONS_8 else None


def parse_labels(text: str, num_classes: int) -> tuple[str, ...]:
    """Label names from "canonical", "rafdb" or a comma-separated list.

    Raises EdgefelError if their number is not `num_classes`, or a name is empty or repeated.
    """
    if text == "canonical":
        return expression_labels(num_classes)
    labels = RAF_DB if text == "rafdb" else tuple(name.strip() for name in text.split(","))
    if len(labels) != num_classes or not all(labels) or len(set(labels)) != len(labels):
        raise EdgefelError(
            f"labels '{text}': {len(labels)} names for {num_classes} classes; "
            "give 'canonical', 'rafdb', or that many different names separated by commas"
        )
    return labels
