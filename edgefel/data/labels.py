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

# The orders in which networks that people have were trained: --labels NAME -> what has it, and its orders for the
# numbers of classes it comes in, the most last. Sources: the data sets' own files; POSTER++, main.py (ImageFolder sorts
# folders, which are numbered in RAF-DB and AffectNet and named in CAER-S); ARBEx, arbex/config.py; APViT,
# mmcls/datasets/raf.py.
_APVIT = ("anger", "disgust", "fear", "sadness", "happiness", "surprise", "neutral", "contempt")
FER_PLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_AFF_WILD2 = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
PRESETS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "canonical": ("AffectNet's numbers", (EXPRESSIONS_7, EXPRESSIONS_8)),
    "rafdb": ("RAF-DB's numbers, as POSTER++ has them", (RAF_DB,)),
    "apvit-rafdb": ("APViT's own order, which its RAF-DB weights have", (_APVIT[:7], _APVIT)),
    "ferplus": ("the columns of FER+", (FER_PLUS[:7], FER_PLUS)),
    "affwild2": ("Aff-Wild2's numbers, as the ARBEx release has them", (_AFF_WILD2[:7], _AFF_WILD2)),
    "alphabetical": (
        "folders of names sorted by ImageFolder, as for POSTER++ on CAER-S",
        (tuple(sorted(EXPRESSIONS_7)), tuple(sorted(EXPRESSIONS_8))),
    ),
}

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
    """Label names from one of PRESETS or a comma-separated list, whose names stay as they are.

    Raises EdgefelError if their number is not `num_classes`, or a name is empty or repeated, also by a synonym.
    """
    if text in PRESETS:
        orders = {len(order): order for order in PRESETS[text][1]}
        labels = orders.get(num_classes, PRESETS[text][1][-1])
    else:
        labels = tuple(name.strip() for name in text.split(","))
    if len(labels) != num_classes or not all(labels) or len(set(canonical_names(labels))) != len(labels):
        raise EdgefelError(
            f"labels '{text}': {len(labels)} names for {num_classes} classes; "
            f"give {', '.join(PRESETS)}, or that many different names separated by commas"
        )
    return check_labels(labels, f"labels '{text}'")


def canonical_names(names: Sequence[str]) -> tuple[str, ...]:
    """Each name's canonical form; names that have none stay as they are."""
    return tuple(canonical_label(name) or name.strip() for name in names)


def choose_labels(given: str | None, named: Sequence[str], num_classes: int, where: str) -> tuple[str, ...]:
    """The labels of a network that others trained: its file's own names, or those that the user gives.

    given: as `parse_labels` takes it. named: the file's names in the order of its outputs, empty where it has none;
    names for another number of classes name nothing. where: the file, for messages. No order is assumed.

    Raises EdgefelError if there is neither, or if both differ.
    """
    if given is None and len(named) == num_classes:
        return check_labels(canonical_names(named), where)
    if given is None:
        found = (
            f"names {len(named)} classes for {num_classes} outputs" if named else "does not name its classes"
        )
        presets = "; ".join(f"{name} ({meaning})" for name, (meaning, _) in PRESETS.items())
        raise EdgefelError(
            f"{where}: {found}; say which output is which with --labels: {presets}; "
            f"or {num_classes} names separated by commas"
        )
    labels = parse_labels(given, num_classes)
    if len(named) == num_classes and canonical_names(labels) != canonical_names(named):
        raise EdgefelError(
            f"{where}: names its classes {', '.join(canonical_names(named))}, but --labels {given} says "
            f"{', '.join(labels)}; leave --labels out"
        )
    return labels
