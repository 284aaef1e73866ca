"""Attributes of the people in the images, and accuracy by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.evaluation.groups import attribute_columns, judge_attribute, read_attributes, wilson


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval(hits, images, low, high):
    """As published: Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    share = wilson(hits, images)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)
    assert share.value == hits / images
    mirrored = wilson(images - hits, images)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((share.low, share.high), abs=1e-12)
    assert type(share.low) is type(share.high) is float


@pytest.mark.parametrize(("hits", "images"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(hits, images):
    with pytest.raises(ValueError, match="must"):
        wilson(hits, images)


def labelled(hits: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, 2] and targets: every image is of class 0, and is recognized or not."""
    return np.array([[0.9, 0.1] if hit else [0.2, 0.8] for hit in hits]), np.zeros(len(hits), int)


def test_gaps_between_values_of_an_attribute():
    hits = [True] * 27 + [False] * 3 + [True] * 8 + [False] * 16 + [False] * 5 + [True]
    values = ["a"] * 30 + ["b"] * 24 + ["rare"] * 5 + [""]
    found = judge_attribute("skin", values, *labelled(hits), ("fear", "anger"))
    assert [(score.value, score.accuracy.hits, score.accuracy.images) for score in found.scores] == [
        ("a", 27, 30),
        ("b", 8, 24),
    ]
    assert (found.values, found.unknown) == (3, 1)
    gap = found.accuracy_gap
    assert (gap.best, gap.worst, gap.overlap) == ("a", "b", False)
    assert gap.difference == pytest.approx(0.9 - 8 / 24)
    assert [(one.of, one.best) for one in found.recall_gaps] == [("fear", "a")]
    assert found.scores[0].recall[1] is None
    accuracies = [0.9, 1 / 3, 0]
    assert found.spread_std == pytest.approx(np.std(accuracies))
    assert (found.spread_least, found.spread_greatest) == (0, 0.9)


def test_small_groups_give_the_spread_alone_and_equal_ones_overlap():
    probabilities, targets = labelled([True, False] * 6)
    found = judge_attribute("group", ["a"] * 6 + ["b"] * 6, probabilities, targets, ("x", "y"))
    assert found.accuracy_gap is None
    assert found.scores == ()
    assert found.spread_mean == 0.5
    probabilities, targets = labelled([True, False] * 30)
    found = judge_attribute("group", ["a"] * 30 + ["b"] * 30, probabilities, targets, ("x", "y"))
    assert found.accuracy_gap.overlap
    assert judge_attribute("group", ["a"] * 60, probabilities, targets, ("x", "y")) is None
    assert judge_attribute("group", list(map(str, range(60))), probabilities, targets, ("x", "y")) is None


@pytest.fixture
def listed(tmp_path: Path) -> ImageDataset:
    """Four images, in another order than their CSV, which knows three of them."""
    lines = ["path,label,split,age,glasses,tone", "c.png,fear,test,30,,0.5", "a.png,fear,test,,round,0.1"]
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "sub/b.png,anger,test,41,none,0.9"]) + "\n")
    names = ("a.png", "sub/b.png", "c.png", "d.png")
    samples = tuple(Sample(tmp_path / name, 0, name, "test") for name in names)
    return ImageDataset(tmp_path, ("fear", "anger"), samples)


def test_attributes_are_matched_by_path(listed):
    assert attribute_columns(listed) == ("glasses", "age")
    assert attribute_columns(listed, ["tone", "tone"]) == ("tone",)
    found = read_attributes(listed, ("age", "glasses"), np.array([3, 1, 0]))
    assert found == {"age": ("", "41", ""), "glasses": ("", "none", "round")}


def test_many_numbers_become_quarters(tmp_path):
    rows = "".join(f"{i}.png,fear,{i / 10}\n" for i in range(12))
    (tmp_path / "set.csv").write_text("path,label,skin\n" + rows)
    samples = tuple(Sample(tmp_path / f"{i}.png", 0, "", "") for i in range(12))
    data = ImageDataset(tmp_path / "set.csv", ("fear",), samples)
    values = read_attributes(data, attribute_columns(data), np.arange(12))["skin"]
    assert [values.count(name) for name in dict.fromkeys(values)] == [3, 3, 3, 3]
    assert values[0] == "0 to 0.275"


def test_a_column_that_is_not_there(listed, tmp_path):
    with pytest.raises(EdgefelError, match="no column 'hat'; choose one of: split, age, glasses, tone"):
        attribute_columns(listed, ["hat"])
    bare = ImageDataset(tmp_path / "bare", listed.labels, listed.samples)
    assert attribute_columns(bare) == ()
    with pytest.raises(EdgefelError, match="leave out --by"):
        attribute_columns(bare, ["hat"])
