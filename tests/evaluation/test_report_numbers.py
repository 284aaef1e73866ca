"""The numbers of the evaluation report, each against an independent computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.errors import EdgefelError
from edgefel.evaluation.attributes import attribute_columns, read_attributes
from edgefel.evaluation.clustering import draw_stratified, judge_clusters, map_features
from edgefel.evaluation.groups import judge_attribute, wilson
from edgefel.evaluation.inference import Outputs
from edgefel.evaluation.metrics import expected_calibration_error, reliability_bins
from edgefel.evaluation.selection import (
    CORRECTED,
    SPOILED,
    SURE,
    UNSURE,
    choose_images,
    find_images,
    rows_of,
)
from edgefel.evaluation.stability import spread


@pytest.mark.parametrize(("hits", "images"), [(0, 7), (7, 7), (1, 1), (13, 20), (480, 1000)])
def test_wilson_interval(hits, images):
    expected = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    share = wilson(hits, images)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert share.value == hits / images


@pytest.mark.parametrize(("hits", "images"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(hits, images):
    with pytest.raises(ValueError, match="hits of"):
        wilson(hits, images)


def test_spread_per_image_and_pooled():
    found = spread(np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert found.std == pytest.approx((0.4 + 0) / 2)
    assert found.highest == pytest.approx(0.7)
    assert found.lowest == pytest.approx(0.3)
    assert found.pooled_std == pytest.approx(np.sqrt((0.16 + 0.16 + 0 + 0) / 4))
    assert (found.pooled_highest, found.pooled_lowest, found.images) == (0.9, 0.1, 2)


def test_reliability_bins_add_up_to_the_ece():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.5), 300)
    targets = rng.integers(0, 4, 300)
    bins = reliability_bins(probabilities, targets)
    assert sum(part.images for part in bins) == 300
    top, hit = probabilities.max(1), probabilities.argmax(1) == targets
    total = 0.0
    for part in bins:
        inside = (top > part.low) & (top <= part.high)
        assert part.images == inside.sum()
        if not inside.any():
            assert part.accuracy is part.confidence is None
            continue
        assert part.accuracy == pytest.approx(hit[inside].mean())
        assert part.confidence == pytest.approx(top[inside].mean())
        total += inside.mean() * abs(hit[inside].mean() - top[inside].mean())
    assert expected_calibration_error(probabilities, targets) == pytest.approx(total)


def test_clusters_on_a_known_arrangement():
    """Two pairs, each spread 1 about its centre, 10 apart."""
    features = np.array([[-1.0, 0], [1, 0], [9, 0], [11, 0]])
    targets = np.array([0, 0, 1, 1])
    found = judge_clusters(features, targets)
    assert found.width == 2
    assert found.davies_bouldin == pytest.approx((1 + 1) / 10)
    assert found.calinski_harabasz == pytest.approx((4 * 25 / 1) / (4 / 2))
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(features, targets))
    assert found.calinski_harabasz == pytest.approx(calinski_harabasz_score(features, targets))
    assert judge_clusters(features, np.zeros(4, int)) is None
    assert judge_clusters(features, np.arange(4)) is None


def test_a_stratified_draw_keeps_the_shares():
    targets = np.repeat([0, 1, 2], [60, 30, 11])
    drawn = draw_stratified(targets, 20)
    assert len(set(drawn.tolist())) == 20
    assert np.bincount(targets[drawn]).tolist() == [12, 6, 2]
    assert np.array_equal(drawn, draw_stratified(targets, 20))
    assert not np.array_equal(drawn, draw_stratified(targets, 20, seed=1))
    assert np.array_equal(draw_stratified(targets, 101), np.arange(101))


def test_the_map_is_the_same_each_time_and_keeps_neighbours():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (15, 8)), rng.normal(5, 0.1, (15, 8))])
    points = map_features(features)
    assert np.array_equal(points, map_features(features))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(30, np.inf))
    assert ((distances.argmin(1) < 15) == (np.arange(30) < 15)).all()


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


def test_the_images_that_are_chosen():
    """Row 0 put right, 1 put right by more, 2 spoiled, 3 sure, 4 undecided."""
    primary = np.array([[0.45, 0.55], [0.2, 0.8], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5]])
    corrected = np.array([[0.55, 0.45], [0.7, 0.3], [0.4, 0.6], [0.99, 0.01], [0.5, 0.5]])
    outputs, targets = Outputs(np.arange(5), primary, corrected), np.zeros(5, int)
    chosen = choose_images(outputs, targets, 4, head=True)
    assert [(one.row, one.why) for one in chosen] == [(1, CORRECTED), (2, SPOILED), (3, SURE), (4, UNSURE)]
    assert len(choose_images(outputs, targets, 12, head=True)) == 5
    assert {one.why for one in choose_images(outputs, targets, 4, head=False)} == {SURE, UNSURE}


def test_images_that_are_asked_for(listed):
    assert find_images(listed, [Path("sub/b.png"), listed.root / "a.png", Path("b.png")]) == (1, 0)
    with pytest.raises(EdgefelError, match=r"z.png: none of the 4 images"):
        find_images(listed, [Path("z.png")])
    with pytest.raises(EdgefelError, match=r"\.png: none"):
        find_images(listed, [Path(".png")])
    outputs = Outputs(np.array([0, 2]), np.eye(2), np.eye(2))
    assert [one.row for one in rows_of(outputs, listed, [2])] == [1]
    with pytest.raises(EdgefelError, match="b.png: cannot be read"):
        rows_of(outputs, listed, [1])
