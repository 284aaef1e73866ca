"""The one owner of label order: names that may stand, and two orders matched by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample, SampleTable
from edgefel.data.labels import (
    EXPRESSIONS_7,
    EXPRESSIONS_8,
    RAF_DB,
    check_judgeable,
    check_labels,
    match_labels,
)
from edgefel.errors import EdgefelError


def test_names_of_ones_own_stand() -> None:
    names = ("Freude", "tristesse profonde", "خشم‌ناک", "a;b")
    assert check_labels(list(names), "x") == names


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "b", "a"], "'a' occurs twice"),
        (["a", "b\nc"], r"'b\\nc' has a line break"),
        (["a", "\x1b[2J"], r"'\\x1b\[2J' has a line break or control"),
        (["a", "b\u2028c"], "line break"),
        (["a", "\ud800"], "control"),
        (["a", "  "], "label 1 is empty"),
        (["a", 3], "3 is not text"),
        ([], "no labels"),
        ("abcdefg", "not a list"),
        (None, "not a list"),
    ],
)
def test_names_that_cannot_stand(labels: object, said: str) -> None:
    with pytest.raises(EdgefelError, match=f"^somewhere: .*{said}"):
        check_labels(labels, "somewhere")


def test_two_orders_of_the_same_classes() -> None:
    match = match_labels(RAF_DB, EXPRESSIONS_7)
    assert match.same_classes
    assert match.labels == EXPRESSIONS_7
    assert [RAF_DB[column] for column in match.columns] == list(EXPRESSIONS_7)
    said = np.arange(14.0).reshape(2, 7)
    assert match.restrict(said).tolist() == [
        [row[RAF_DB.index(name)] for name in EXPRESSIONS_7] for row in said
    ]
    assert match_labels(RAF_DB, RAF_DB).restrict(said) is said


def test_a_class_that_one_side_lacks() -> None:
    match = match_labels(EXPRESSIONS_8, RAF_DB)
    assert (match.labels, match.only_model, match.only_other) == (RAF_DB, ("contempt",), ())
    said = np.array([[0.1, 0.0, 0.0, 0.2, 0.0, 0.0, 0.1, 0.6], [0, 0, 0, 0, 0, 0, 0, 1.0]])
    restricted = match.restrict(said)
    assert restricted[0] == pytest.approx([0.5, 0, 0, 0, 0, 0.25, 0.25])
    assert restricted[1] == pytest.approx([1 / 7] * 7)
    match = match_labels(RAF_DB, EXPRESSIONS_8)
    assert (match.labels, match.only_model, match.only_other) == (EXPRESSIONS_7, (), ("contempt",))


def test_synonyms_and_cases_match_and_equal_names_come_first() -> None:
    match = match_labels(("Angry", "HAPPY", "e\u0301"), ("happiness", "anger", "\xe9"))
    assert match.columns == (1, 0, 2)
    match = match_labels(("happy", "happiness"), ("happiness", "joy"))
    assert [match.model[column] for column in match.columns] == ["happiness", "happy"]
    # two names that could be meant: neither is taken
    assert match_labels(("happy", "joy", "fear"), ("happiness", "fear")).labels == ("fear",)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(EdgefelError, match="share fewer than two classes: the model's are calm, fear"):
        check_judgeable(match_labels(("calm", "fear"), EXPRESSIONS_7), "faces")
    misspelt = ("suprise", *(name for name in EXPRESSIONS_7 if name != "surprise"))
    with pytest.raises(EdgefelError, match="no counterpart for the classes suprise, surprise"):
        check_judgeable(match_labels(misspelt, EXPRESSIONS_7), "faces")
    check_judgeable(match_labels(EXPRESSIONS_8, (*EXPRESSIONS_7, "other")), "Aff-Wild2")
    check_judgeable(match_labels(("bored", *EXPRESSIONS_7), EXPRESSIONS_7), "faces")


class _Store:
    def path(self, index: int) -> Path:
        return Path(f"{index}.png")

    def read(self, index: int) -> bytes:
        raise OSError


def _data(kind: str) -> ImageDataset:
    """Images 0 to 15, two of each class, with soft labels that say 0.75 of their own and 0.25 of the next."""
    label = np.arange(16) // 2
    soft = (0.75 * np.eye(8) + 0.25 * np.roll(np.eye(8), 1, axis=1))[label].astype(np.float32)
    if kind == "table":
        table = SampleTable(_Store(), label, np.arange(16), [str(i) for i in range(16)], "test", soft=soft)
        return ImageDataset(Path("set"), EXPRESSIONS_8, table)
    samples = [
        Sample(Path(f"{i}.png"), int(label[i]), str(i), "test", tuple(soft[i].tolist())) for i in range(16)
    ]
    return ImageDataset(Path("set"), EXPRESSIONS_8, tuple(samples))


@pytest.mark.parametrize("kind", ["table", "samples"])
def test_a_data_set_without_the_classes_that_a_model_lacks(kind: str) -> None:
    data = _data(kind)
    assert data.matched(EXPRESSIONS_8[::-1]).dataset is data
    matched = data.matched(RAF_DB)
    assert matched.dataset.labels == EXPRESSIONS_7
    assert matched.left_out == {"contempt": 2}
    assert [sample.path.name for sample in matched.dataset.samples] == [f"{i}.png" for i in range(14)]
    assert matched.dataset.soft_targets()[12:] == pytest.approx(np.eye(7)[[6, 6]])
    assert matched.dataset.soft_targets()[:12].max() == pytest.approx(0.75)
    assert matched.notes() == ("set: images of classes that the model lacks are left out: 2 of contempt",)
    assert matched.to_dict()["judged"] == list(EXPRESSIONS_7)


@pytest.mark.parametrize("kind", ["table", "samples"])
def test_a_data_set_in_another_order(kind: str) -> None:
    data = _data(kind)
    other = data.reordered(EXPRESSIONS_8[::-1])
    assert other.labels == EXPRESSIONS_8[::-1]
    assert other.targets().tolist() == [7 - label for label in data.targets()]
    assert other.soft_targets().tolist() == data.soft_targets()[:, ::-1].tolist()
    assert [sample.path for sample in other.samples] == [sample.path for sample in data.samples]
    with pytest.raises(EdgefelError, match="the model was trained on neutral, .* anger; give its own data"):
        data.reordered(EXPRESSIONS_7)


def test_nothing_is_left_of_a_data_set() -> None:
    only = _data("samples").subset([14, 15])
    with pytest.raises(EdgefelError, match="has no image of neutral, happiness"):
        only.matched(EXPRESSIONS_7)
