"""What counts as slower: beyond the limit, and beyond what the scatter explains."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from bench_rows import ORIN, example_rows, row, timing

from edgefel.bench.diff import DiffLimits, compare
from edgefel.bench.report.rows import Collection
from edgefel.errors import EdgefelError

LIMITS = DiffLimits(slower=0.05, drop=1.0)


def side(*rows) -> Collection:
    return Collection(tuple(rows), ())


def measured(p50: float, half: float = 0.01, *, stable: bool = True, day: int = 1, **metrics: Any):
    """A row whose median's interval reaches `half` of it to both sides."""
    latency = {**timing(10.0), "p50": p50, "p50_interval": [p50 * (1 - half), p50 * (1 + half)]}
    latency |= {"stable": stable, "reason": "" if stable else "it drifts"}
    return row("latency", metrics={"latency_ms": latency, **metrics}, time=f"2026-11-{day:02}T00:00:00+00:00")


def only(before, after, limits: DiffLimits = LIMITS):
    (change,) = compare(side(*before), side(*after), limits).changes
    return change


@pytest.mark.parametrize(
    ("before", "after", "half", "verdict", "fails"),
    [
        (100, 110, 0.01, "slower", True),
        (100, 110, 0.06, "noise", False),  # 94-106 and 103.4-116.6 overlap
        (100, 104, 0.001, "same", False),  # clearly slower, but allowed
        (100, 105, 0.001, "same", False),  # the limit itself is allowed
        (100, 90, 0.01, "faster", False),
        (100, 90, 0.08, "noise", False),
        (100, 100, 0.01, "same", False),
    ],
)
def test_over_the_limit_and_apart(before, after, half, verdict, fails):
    change = only([measured(before, half)], [measured(after, half)])
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(after / before)
    assert bool(change.failures) == fails
    if fails:
        assert change.failures == ("10.0% slower, at most 5.0% is allowed",)


def test_a_row_against_itself_changes_nothing():
    rows = example_rows()
    diff = compare(side(*rows), side(*rows), LIMITS)
    assert {change.verdict for change in diff.changes} == {"same", "unstable", "no interval"}
    assert diff.failures == []
    assert diff.left_out == 10
    # without the three bounds, the experiment and the counted nodes, and with two rows' way from image to labels
    assert len(diff.changes) == len(rows) - 5 + 2


def test_a_run_a_tenth_slower_is_found_by_real_intervals():
    def run(ms: float, seed: int):
        return side(row("latency", metrics={"latency_ms": timing(ms, seed=seed)}))

    assert compare(run(30.0, 1), run(30.0, 2), LIMITS).failures == []
    assert len(compare(run(30.0, 1), run(33.0, 2), LIMITS).failures) == 1


def test_repetitions_widen_the_interval_by_how_runs_differ():
    """Each run by itself is narrow; that runs differ by 12 % is only seen when there are several."""
    after = [measured(112, 0.001)]
    assert only([measured(100, 0.001)], after).verdict == "slower"
    change = only([measured(value, 0.001, day=day) for day, value in enumerate((100, 99, 113), 1)], after)
    assert change.verdict == "noise"
    assert change.before.runs == 3
    assert change.before.value == 100
    assert (change.before.low, change.before.high) == pytest.approx((98.901, 113.113))


def test_unstable_rows_fail_only_when_strict():
    before, after = [measured(100)], [measured(150, stable=False)]
    change = only(before, after)
    assert (change.verdict, change.reason, change.failures) == ("unstable", "B: it drifts", ())
    assert only(after, before).reason == "A: it drifts"
    strict = dataclasses.replace(LIMITS, strict=True)
    assert only(before, after, strict).verdict == "slower"
    assert only(before, after, strict).failures
    # strict, but not blind: within the scatter is within the scatter
    assert only([measured(100, 0.3)], [measured(120, 0.3, stable=False)], strict).verdict == "noise"


def test_an_unstable_repetition_makes_its_side_unstable():
    assert only([measured(100), measured(100, stable=False, day=2)], [measured(150)]).verdict == "unstable"


def test_a_ratios_other_side_does_not_make_a_row_unstable():
    ratio = {"value": 1.0, "interval": [0.5, 2.0], "stable": False, "reason": "the other one drifts"}
    assert only([measured(100, ratio=ratio)], [measured(120, ratio=ratio)]).verdict == "slower"


def train(speed: float, day: int = 1):
    time = f"2026-11-{day:02}T00:00:00+00:00"
    return row("train", {"model": "arbex"}, {"images_per_s": speed}, time=time)


def test_images_a_second_are_judged_by_their_repetitions():
    assert only([train(10)], [train(8)]).verdict == "no interval"
    assert only([train(10)], [train(8)], dataclasses.replace(LIMITS, strict=True)).verdict == "slower"
    twice = only([train(10), train(10.2, 2)], [train(8), train(8.1, 2)])
    assert twice.verdict == "slower"
    assert twice.ratio == pytest.approx((1 / 8 + 1 / 8.1) / (1 / 10 + 1 / 10.2))


def test_accuracy_that_falls_fails_however_fast():
    def judged(accuracy: float, f1: float, **how: Any):
        return measured(100 if accuracy > 0.9 else 50, accuracy=accuracy, macro_f1=f1, **how)

    change = only([judged(0.95, 0.94)], [judged(0.90, 0.94, stable=False)])
    assert change.verdict == "unstable"
    assert change.failures == ("accuracy fell by 5.00 points, at most 1 are allowed",)
    assert change.accuracy == pytest.approx(-5)
    assert only([judged(0.95, 0.94)], [judged(0.94, 0.93)]).failures == ()  # the limit itself is allowed
    assert only([judged(0.95, 0.94)], [judged(0.95, 0.92)]).failures == (
        "macro f1 fell by 2.00 points, at most 1 are allowed",
    )
    assert only([judged(0.95, 0.90)], [judged(0.97, 0.95)]).failures == ()


def test_size_and_memory_are_shown_and_not_judged():
    change = only(
        [measured(100, file_bytes=10, peak_memory_mb=5.0)],
        [measured(100, file_bytes=99, peak_memory_mb=50.0)],
    )
    assert change.file_bytes == (10, 99)
    assert change.peak_memory_mb == (5.0, 50.0)
    assert change.failures == ()


def test_rows_of_different_devices_are_refused():
    with pytest.raises(
        EdgefelError, match="is of 'Intel.*cores', .* of 'NVIDIA Jetson Orin Nano.*25W'.*cannot be compared"
    ):
        compare(side(measured(1)), side(row(device=ORIN)), LIMITS)
    # also where only some of them are of another one
    with pytest.raises(EdgefelError, match="of different devices"):
        compare(side(measured(1)), side(measured(1), row(device=ORIN)), LIMITS)


def test_rows_of_two_devices_are_matched_within_each():
    def both(first: float, second: float):
        other = dataclasses.replace(measured(second), environment={"device": ORIN})
        return side(measured(first), other)

    diff = compare(both(100, 10), both(100, 20), LIMITS)
    assert [change.verdict for change in diff.changes] == ["same", "slower"]
    assert diff.changes[1].device == ORIN


def test_what_only_one_file_has_is_listed():
    extra = row(subject={"model": "poster-v2"})
    diff = compare(side(measured(1)), side(measured(1), extra), LIMITS)
    assert (diff.only_before, diff.only_after) == ((), ("poster-v2",))
    assert diff.failures == []


def test_the_way_from_image_to_labels_is_judged_by_itself():
    whole = measured(100).metrics["latency_ms"]
    slow = measured(130).metrics["latency_ms"]
    diff = compare(side(measured(10, end_to_end_ms=whole)), side(measured(10, end_to_end_ms=slow)), LIMITS)
    assert [change.verdict for change in diff.changes] == ["same", "slower"]
    assert diff.failures[0].startswith(
        "arbex int8 openvino, batch 1, threads 2, scope end to end: 30.0% slower"
    )


def test_bounds_of_other_devices_are_no_reason_to_refuse():
    bound = row("roofline", {"model": "arbex"}, {"floor_ms": 3.0}, device=ORIN)
    diff = compare(side(measured(100), bound), side(measured(100)), LIMITS)
    assert [change.verdict for change in diff.changes] == ["same"]
    assert diff.left_out == 1


def test_nothing_in_common_is_an_error():
    with pytest.raises(EdgefelError, match="have no measurement in common"):
        compare(side(measured(1)), side(row(subject={"model": "poster-v2"})), LIMITS)
    bound = row("roofline", {"model": "arbex"}, {"floor_ms": 3.0})
    with pytest.raises(EdgefelError, match="have no measurement in common"):
        compare(side(bound), side(bound), LIMITS)


@pytest.mark.parametrize("how", [{"slower": -0.1}, {"slower": float("nan")}, {"drop": -1}])
def test_limits_below_nothing_are_refused(how):
    with pytest.raises(EdgefelError, match="give a number of at least 0"):
        DiffLimits(**how)


def test_it_is_json():
    diff = compare(side(*example_rows()), side(*example_rows()), LIMITS)
    values = json.loads(json.dumps(diff.to_dict(), allow_nan=False))
    assert values["failures"] == []
    assert values["changes"][0]["before"]["runs"] == 1
