"""Balanced, random and most-frequent-class calibration of one small network, compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from calibration_sets import OPTIONS, PREPROCESSING
from exported import LABELS, run_onnx, tiny_graph

from edgefel.bench.experiments.calibration.comparison import (
    STRATEGIES,
    _Judge,
    held_out_images,
    plan_comparison,
    plan_runs,
)
from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.calib.quantize import quantize
from edgefel.calib.reader import CalibrationReader
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_batch_norms, spread_prelu
from edgefel.export.parity.compare import sqnr_db
from edgefel.progress import SILENT


def test_all_strategies_draw_as_many_images_from_the_same_long_tail(dataset):
    runs = plan_runs(dataset, OPTIONS)
    assert [run.strategy for run in runs] == [*STRATEGIES] * 4
    for first in range(0, 12, 3):
        balanced, random, frequent = runs[first : first + 3]
        assert balanced.pool == random.pool == frequent.pool
        assert set(balanced.choice.counts.values()) == {balanced.per_class}
        assert {len(run.choice.indices) for run in runs[first : first + 3]} == {8 * balanced.per_class}
        most = frequent.pool.order[0]
        assert {name for name, count in frequent.choice.counts.items() if count} == {most}
        for run in (balanced, random, frequent):
            assert set(run.choice.indices) <= set(run.pool.indices)
            assert {dataset.samples[i].split for i in run.choice.indices} == {"train"}
    ends = [[run.pool.counts[run.pool.order[at]] for at in (0, -1)] for run in runs]
    assert ends == [[20, 5]] * 12
    # random sets follow the long tail: with 8 or 16 images, each class cannot happen to be there as often
    assert all(len(set(run.choice.counts.values())) > 1 for run in runs if run.strategy == "random")
    assert runs[0].pool.order[0] != runs[3].pool.order[0]
    assert plan_runs(dataset, OPTIONS) == runs


def test_a_class_that_runs_short_makes_every_set_smaller(dataset):
    runs = plan_runs(dataset, replace(OPTIONS, per_class=(2,), imbalance=20))
    assert runs[0].choice.short == (runs[0].pool.order[-1],)
    assert {len(run.choice.indices) for run in runs} == {15}


def test_a_run_is_what_quantizing_by_hand_gives(comparison, dataset):
    run, row = plan_runs(dataset, OPTIONS)[4], comparison.rows[4]
    assert (row.strategy, row.seed, row.used, row.counts) == ("random", 1, 8, run.choice.counts)
    # as `edgefel export --int8` does for ONNX Runtime
    graph = spread_batch_norms(spread_prelu(tiny_graph())[0])[0]
    placement = place(graph, ONNXRUNTIME)
    reader = CalibrationReader(dataset, run.choice.indices, PREPROCESSING)
    found = collect_activations(graph, placement.activations, reader)
    scales, ends = activation_scales(found, OPTIONS.method), activation_ends(found, OPTIONS.method)
    test = [s for s in dataset.samples if s.split == "test" and cv2.imread(str(s.path)) is not None]
    batch = PREPROCESSING.batch([cv2.cvtColor(cv2.imread(str(s.path)), cv2.COLOR_BGR2RGB) for s in test])
    int8 = run_onnx(quantize(graph, placement, scales, ends), batch)
    fp32 = run_onnx(tiny_graph(), batch)
    targets = np.array([7 - sample.label for sample in test])  # of the model's outputs
    said = int8["probabilities"].argmax(1)
    assert row.measures["accuracy"] == pytest.approx((said == targets).mean())
    assert row.measures["agreement"] == pytest.approx((said == fp32["probabilities"].argmax(1)).mean())
    assert row.measures["sqnr_db"] == pytest.approx(sqnr_db(fp32["logits"], int8["logits"]), abs=0.2)
    fear = targets == LABELS[::-1].index("fear")
    assert row.measures["recall_fear"] == pytest.approx((said == targets)[fear].mean())


def test_what_a_comparison_holds(comparison):
    assert comparison.plan.split == "test"
    assert comparison.held_out == {**dict.fromkeys(LABELS, 3), "fear": 2}
    assert [path.name for path in comparison.skipped] == ["1.png"]
    assert [pool.tail for pool in comparison.plan.pools] == [LABELS[5:], (*LABELS[6:], LABELS[0])]
    assert len(comparison.rows) == 12
    assert Counter(summary.strategy for summary in comparison.summaries) == {
        "fp32": 1,
        **dict.fromkeys(STRATEGIES, 2),
    }
    fp32 = comparison.summaries[0].measures
    assert fp32["agreement"].value == 1
    by = {(row.strategy, row.per_class, row.seed): row.measures for row in comparison.rows}
    for difference in comparison.differences:
        size, other = difference.per_class, difference.against
        for name in ("macro_f1", "sqnr_db", "tail_agreement"):
            gaps = [by["balanced", size, s][name] - by[other, size, s][name] for s in (0, 1)]
            assert difference.measures[name].value == pytest.approx(np.mean(gaps))


def test_fewer_images_judge_and_every_class_has_to_be_among_them(dataset):
    split, indices = held_out_images(dataset, replace(OPTIONS, images=22))
    assert (split, len(indices)) == ("test", 22)
    with pytest.raises(EdgefelError, match="4 held-out images of the split test show no .*--images"):
        held_out_images(dataset, replace(OPTIONS, images=4))
    rest = replace(dataset, samples=tuple(s for s in dataset.samples if s.split != "test"))
    assert held_out_images(rest, OPTIONS)[0] == "val"


def test_a_model_with_a_class_more_is_judged_by_the_others(dataset):
    seven = dataset.matched(LABELS[:7]).dataset
    plan = plan_comparison(seven, LABELS[::-1], OPTIONS)
    assert plan.labels == LABELS[:7]
    assert plan.matched.to_dict()["outputs_ignored"] == ["contempt"]
    assert plan.runs == tuple(plan_runs(seven, OPTIONS))  # the model's order changes no draw
    judge = _Judge.read(plan, PREPROCESSING, SILENT, [])
    _, predicted = judge.outputs(tiny_graph())
    # the outputs are in the reverse order: contempt is the first
    expected = 6 - run_onnx(tiny_graph(), PREPROCESSING.batch(judge.crops))["probabilities"][:, 1:].argmax(1)
    assert predicted.tolist() == expected.tolist()
    shown = [sample.label for sample in seven.samples if sample.split == "test"]
    assert sorted([*judge.targets.tolist(), LABELS.index("fear")]) == sorted(shown)


def test_a_model_with_a_class_less_is_judged_without_its_images(dataset):
    plan = plan_comparison(dataset, LABELS[6::-1], OPTIONS)
    assert plan.labels == LABELS[:7]
    assert plan.matched.to_dict()["images_left_out"] == {"contempt": 24}
    assert plan.matched.dataset.labels == LABELS[:7]
    assert "24 of contempt" in plan.matched.notes()[0]


def test_unusable_data_is_refused(dataset):
    train = replace(dataset, samples=tuple(s for s in dataset.samples if s.split == "train"))
    test = replace(dataset, samples=tuple(s for s in dataset.samples if s.split == "test"))
    cases = (
        (train, OPTIONS, "has no split test or val to judge on"),
        (test, OPTIONS, "has no split train to calibrate on"),
        (dataset, replace(OPTIONS, imbalance=21), "needs 21 images of .* and there are 20"),
        (replace(dataset, labels=()), OPTIONS, "share fewer than two classes: .* has unknown ones"),
    )
    for data, options, message in cases:
        with pytest.raises(EdgefelError, match=message):
            plan_comparison(data, LABELS, options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "at least 2 draws"),
        ({"per_class": ()}, "give sizes"),
        ({"per_class": (2, 2)}, "each once"),
        ({"method": "magic"}, "choose one of sqnr"),
        ({"images": 0}, "at least 1"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(EdgefelError, match=message):
        replace(OPTIONS, **change)
