"""The canonical order of expression labels. Checkpoints and manifests store labels by name.

The order is AffectNet's (Mollahosseini et al., arXiv 1708.03985); seven-class sets drop contempt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.errors import EdgefelError

EXPRESSIONS_8 = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
EXPRESSIONS_7 = EXPRESSIONS_8[:7]

# Aff-Wild2's eighth class: a face that shows none of the seven.
OTHER = "other"

# The order of RAF-DB's label files (Li et al., CVPR 2017), which models trained on it keep.
RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")

# Label orders of published networks: --labels NAME -> description, and the order for each number of classes, ascending.
# Sources: the data sets' own files; POSTER++, main.py (ImageFolder sorts folders, which are numbered in RAF-DB and
# AffectNet and named in CAER-S); ARBEx, arbex/config.py; APViT, mmcls/datasets/raf.py.
_APVIT = ("anger", "disgust", "fear", "sadness", "happiness", "surprise", "neutral", "contempt")
FER_PLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
AFF_WILD2 = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", OTHER)
PRESETS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "canonical": ("AffectNet's numbers", (EXPRESSIONS_7, EXPRESSIONS_8)),
    "rafdb": ("RAF-DB's numbers, as POSTER++ has them", (RAF_DB,)),
    "apvit-rafdb": ("APViT's own order, which its RAF-DB weights have", (_APVIT[:7], _APVIT)),
    "ferplus": ("the columns of FER+", (FER_PLUS[:7], FER_PLUS)),
    "affwild2": ("Aff-Wild2's numbers, as the ARBEx release has them", (AFF_WILD2[:7], AFF_WILD2)),
    "alphabetical": (
        "folders of names sorted by ImageFolder, as for POSTER++ on CAER-S",
        (tuple(sorted(EXPRESSIONS_7)), tuple(sorted(EXPRESSIONS_8))),
    ),
}

# Synonyms in public data sets.
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

_LONGEST = 100  # characters of a label
# Unicode's control characters, line and paragraph separators, and halves of characters. Joiners (Cf) are spelling in
# Persian and Hindi, and stay.
_UNPRINTED = frozenset({"Cc", "Zl", "Zp", "Cs"})


def expression_labels(num_classes: int) -> tuple[str, ...]:
    """The canonical labels for 7 or 8 classes; raises EdgefelError for any other count."""
    if num_classes not in (7, 8):
        raise EdgefelError(f"{num_classes} expression classes: the canonical label sets have 7 or 8")
    return EXPRESSIONS_8[:num_classes]


def canonical_label(name: str) -> str | None:
    """The canonical name for `name` (any case, or a usual synonym such as "happy"), or None."""
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in EXPRESSIONS_8 else None


def check_labels(labels: object, where: str) -> tuple[str, ...]:
    """A list or tuple of `labels` as a tuple, if they are valid class names.

    A name is any text of one line, not empty or repeated: label files of devices and servers have one name per line.
    where: the file or option of the labels, for the message. Raises EdgefelError that names the first invalid label.
    """
    if not isinstance(labels, list | tuple):
        raise EdgefelError(f"{where}: the labels are {labels!r}, not a list of the classes' names")
    for number, label in enumerate(labels):
        if (problem := _problem(number, label, labels[:number])) is not None:
            raise EdgefelError(f"{where}: the label {problem}")
    if not labels:
        raise EdgefelError(f"{where}: has no labels; give a name for each class")
    return tuple(labels)


def _problem(number: int, label: object, before: Sequence[object]) -> str | None:
    if not isinstance(label, str):
        return f"{label!r} is not text; give the classes' names as strings"
    if not label.strip():
        return f"{number} is empty; give every class a name"
    if any(unicodedata.category(character) in _UNPRINTED for character in label):
        return f"{label!r} has a line break or control character in it; take it out"
    if len(label) > _LONGEST:
        return f"{label[:20]!r}... has {len(label)} characters; give at most {_LONGEST}"
    return f"{label!r} occurs twice; give every class a name of its own" if label in before else None


@dataclass(frozen=True)
class LabelMatch:
    """The classes of a model and those of data, or of another model, matched by name. Made by `match_labels`.

    model, other: the names, each side in its own order. numbers: the other side's numbers of the common classes,
    ascending. columns: the model's numbers of the same classes.
    """

    model: tuple[str, ...]
    other: tuple[str, ...]
    columns: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The common classes, named and ordered as on the other side."""
        return tuple(self.other[number] for number in self.numbers)

    @property
    def only_model(self) -> tuple[str, ...]:
        """The model's classes that the other side lacks."""
        return tuple(name for i, name in enumerate(self.model) if i not in self.columns)

    @property
    def only_other(self) -> tuple[str, ...]:
        """The other side's classes that the model lacks."""
        return tuple(name for i, name in enumerate(self.other) if i not in self.numbers)

    @property
    def same_classes(self) -> bool:
        """Whether both have the same classes, in any order."""
        return len(self.columns) == len(self.model) == len(self.other)

    def restrict(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """The model's distributions [N, C] as distributions over `labels` [N, K], in their order.

        If the model has other classes, these are the probabilities given that it is none of them; a row that gives the
        common classes no probability becomes uniform.
        """
        if self.columns == tuple(range(len(self.model))):
            return probabilities
        chosen = probabilities[:, list(self.columns)]
        if not self.only_model:
            return chosen
        sums = chosen.sum(axis=1, keepdims=True)
        even = np.full_like(chosen, 1 / len(self.columns))
        return np.where(sums > 0, chosen / np.where(sums > 0, sums, 1), even)


def match_labels(model: Sequence[str], other: Sequence[str]) -> LabelMatch:
    """Matches two sets of classes by name: equal names first, then usual synonyms, in any case ("Happy", "happiness").

    `ImageDataset.matched` also checks that a model can be judged.
    """
    model, other = tuple(model), tuple(other)
    found = {name: name for name in other if name in model}
    ours = [name for name in model if name not in found]
    theirs = [name for name in other if name not in found]
    for name in theirs:
        like = [candidate for candidate in ours if _key(candidate) == _key(name)]
        if len(like) == 1 and sum(_key(one) == _key(name) for one in theirs) == 1:
            found[name] = like[0]
    numbers = tuple(i for i, name in enumerate(other) if name in found)
    return LabelMatch(model, other, tuple(model.index(found[other[i]]) for i in numbers), numbers)


def same_class(first: str, second: str) -> bool:
    """Whether two names are equal or synonyms, in any case."""
    return first == second or _key(first) == _key(second)


def check_judgeable(match: LabelMatch, data: str) -> None:
    """Raises EdgefelError unless a model can be judged by the classes that it shares with the data set `data`.

    Classes that one side lacks are left out, and so would be a class with a different name on each side: if both sides
    have classes that the other lacks, unknown names are refused.
    """
    named = f"the model's are {', '.join(match.model)}, {data} has {', '.join(match.other) or 'unknown ones'}"
    if len(match.columns) < 2:
        raise EdgefelError(f"the model and {data} share fewer than two classes: {named}; use other data")
    strange = [name for name in (*match.only_model, *match.only_other) if name not in (*EXPRESSIONS_8, OTHER)]
    if match.only_model and match.only_other and strange:
        raise EdgefelError(
            f"no counterpart for the classes {', '.join((*match.only_model, *match.only_other))}: {named}; if they are "
            "the same under other names, import the model again with --labels that the data uses"
        )


def to_canonical(
    numbers: NDArray[np.integer[Any]],
    classes: Sequence[str],
    labels: Sequence[str],
    where: Callable[[int], str],
) -> NDArray[np.int16]:
    """Converts numbers [N] in a set's own order, from 0, to indices into `labels`, by name.

    where: the place of row n. Raises EdgefelError for a number without a class, and for a class that is not among the
    labels.
    """
    missing = [name for name in classes if name not in labels]
    if missing:
        raise EdgefelError(f"{where(0)}: its classes {', '.join(missing)} are not among {', '.join(labels)}")
    outside = np.flatnonzero((numbers < 0) | (numbers >= len(classes)))
    if outside.size:
        raise EdgefelError(
            f"{where(int(outside[0]))}: class {int(numbers[outside[0]])} is unknown; its classes are 0 to "
            f"{len(classes) - 1}: {', '.join(classes)}"
        )
    # a manifest may spell one class in several ways, so several of `classes` can be the same
    places = np.array([labels.index(name) for name in classes], np.int16)
    return np.asarray(places[numbers], np.int16)


def _key(name: str) -> str:
    """A key that is equal for two names of one class."""
    return canonical_label(name) or unicodedata.normalize("NFC", name.strip()).casefold()


def parse_labels(text: str, num_classes: int) -> tuple[str, ...]:
    """Label names from one of PRESETS or a comma-separated list, unchanged.

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
    """The labels of an imported network: the file's own names, or the user's. No order is assumed.

    given: text for `parse_labels`. named: the file's names in the order of its outputs, empty if it has none; ignored
    for another number of classes. where: the file, for messages. Raises EdgefelError if there are neither, or both
    differ.
    """
    known = canonical_names(named) if len(named) == num_classes else ()
    if given is None and known:
        return check_labels(known, where)
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
    if known and canonical_names(labels) != known:
        raise EdgefelError(
            f"{where}: names its classes {', '.join(known)}, but --labels {given} says {', '.join(labels)}; leave "
            "--labels out"
        )
    return labels
