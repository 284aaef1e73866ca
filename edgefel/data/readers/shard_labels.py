"""What the label of one sample in a shard says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgefel.data.dataset import SPLITS, Box
from edgefel.data.labels import EXPRESSIONS_8, canonical_label
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json


@dataclass(frozen=True)
class Description:
    """label and soft by EXPRESSIONS_8; split is None, and group "", where the sample does not say."""

    label: int
    split: str | None = None
    group: str = ""
    soft: tuple[float, ...] | None = None
    box: Box | None = None


def describe(cls: str | None, text: str | None, classes: Sequence[str], where: str) -> Description:
    """From the text of `KEY.cls` and of `KEY.json`; one may be None.

    classes: canonical names by the set's own numbers, empty if not known. where: for messages.
    Raises EdgefelError for what is malformed, unknown, or contradicts the other.
    """
    labels = []
    if cls is not None:
        name = cls.strip()
        labels.append(_label(int(name) if name.lstrip("-").isdecimal() else name, classes, f"{where}.cls"))
    if text is None:
        return Description(labels[0])
    where = f"{where}.json"
    said = _object(text, where)
    if "label" in said:
        labels.append(_label(said["label"], classes, where))
    if not labels:
        raise EdgefelError(f'{where}: has no "label"; give a name or a number')
    if len(set(labels)) > 1:
        cls_name, json_name = (EXPRESSIONS_8[label] for label in labels)
        raise EdgefelError(f"{where}: says {json_name}, but the .cls file {cls_name}; correct one of them")
    split = said.get("split")
    if split is not None and split not in (*SPLITS, ""):
        raise EdgefelError(f"{where}: split {split!r} is unknown; use {', '.join(SPLITS)} or leave it out")
    group = said.get("group", said.get("subject"))
    return Description(
        labels[0],
        split,
        "" if group is None else str(group),
        _soft(said["soft"], classes, where) if said.get("soft") is not None else None,
        _box(said["box"], where) if said.get("box") is not None else None,
    )


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        said = parse_json(text, where)
    except EdgefelError as error:
        raise EdgefelError(f"{error}; correct it") from None
    if not isinstance(said, dict):
        raise EdgefelError(f'{where}: not a JSON object with "label"; correct it')
    return said


def _label(value: object, classes: Sequence[str], where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not classes:
            raise EdgefelError(
                f"{where}: class {value} is a number, and nothing says what it means; put classes.txt beside the "
                "shards, with the name of each class on a line, in order"
            )
        if not 0 <= value < len(classes):
            raise EdgefelError(
                f"{where}: class {value} is unknown; its classes are 0 to {len(classes) - 1}: {', '.join(classes)}"
            )
        return EXPRESSIONS_8.index(classes[value])
    label = canonical_label(value) if isinstance(value, str) else None
    if label is None:
        raise EdgefelError(f"{where}: unknown label {value!r}; the labels are {', '.join(EXPRESSIONS_8)}")
    return EXPRESSIONS_8.index(label)


def _soft(value: object, classes: Sequence[str], where: str) -> tuple[float, ...]:
    """Probabilities by EXPRESSIONS_8, of an object by name or of a list in the order of the classes."""
    if isinstance(value, list):
        if len(value) != len(classes):
            raise EdgefelError(
                f"{where}: soft is a list of {len(value)} for {len(classes)} known classes; give an object by name, "
                "or one number for each line of classes.txt"
            )
        value = dict(zip(classes, value, strict=True))
    if not isinstance(value, dict) or not all(_is_number(number) for number in value.values()):
        raise EdgefelError(f"{where}: soft does not hold numbers; give the probability of each label by name")
    soft = [0.0] * len(EXPRESSIONS_8)
    for name, number in value.items():
        soft[_label(name, classes, where)] += number
    if not (min(soft) >= 0 and math.isclose(sum(soft), 1.0, abs_tol=1e-3)):
        raise EdgefelError(f"{where}: soft is not a distribution (each >= 0, sum 1); correct it")
    return tuple(soft)


def _box(value: object, where: str) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(number) for number in value):
        raise EdgefelError(f"{where}: box {value!r} is not [x, y, width, height] in pixels; correct it")
    x, y, width, height = (round(number) for number in value)
    if width <= 0 or height <= 0:
        raise EdgefelError(f"{where}: box {value!r} has no area; give [x, y, width, height] in pixels")
    return x, y, width, height


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
