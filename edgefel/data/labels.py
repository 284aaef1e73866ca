"""The canonical order of expression labels. It travels by name in checkpoints and manifests.

The order is AffectNet's (Mollahosseini et al., arXiv 1708.03985); seven-class sets drop contempt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

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

# Unicode's control characters, line and paragraph separators, and halves of characters. Joiners (Cf) are spelling in
# Persian and Hindi, and stay.
_UNPRINTED = frozenset({"Cc", "Zl", "Zp", "Cs"})


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


def check_labels(labels: Sequence[object], where: str) -> tuple[str, ...]:
    """`labels` as a tuple, if they can name the classes of a model wherever names are written.

    A name may be any text, but not empty, repeated, or of more than a line: label files of devices and servers have
    one name to a line. where: the file or option that they come from, for the message.

    Raises EdgefelError that names the first label which cannot stand.
    """
    names: list[str] = []
    for label in labels:
        if not isinstance(label, str):
            raise EdgefelError(
                f"{where}: the label {label!r} is not text; give the classes' names as strings"
            )
        if not label.strip():
            raise EdgefelError(f"{where}: the label {len(names)} is empty; give every class a name")
        if any(unicodedata.category(character) in _UNPRINTED for character in label):
            raise EdgefelError(
                f"{where}: the label {label!r} has a line break or control character in it; take it out"
            )
        if label in names:
            raise EdgefelError(
                f"{where}: the label {label!r} occurs twice; give every class a name of its own"
            )
        names.append(label)
    if not names:
        raise EdgefelError(f"{where}: has no labels; give a name for each class")
    return tuple(names)


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
