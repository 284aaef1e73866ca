"""Latency of a bundle: rows, turns, stages that sum up to the whole, energy."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import cv2
import pytest

from edgefel.bench import latency
from edgefel.bench.latency import (
    LatencyOptions,
    Pipeline,
    bench_latency,
    check_found,
    measure_energy,
    scene,
)
from edgefel.bench.results import append_results, read_results
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.labelling import label_faces
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.board import Board

BUNDLE = Path(__file__).parent.parent / "bundles" / "nano-synthetic"
BRIEF = TimingPlan(warmup=1, settle_seconds=0, min_runs=3, seconds=0, max_runs=3)
ORT = ("onnxruntime",)


def test_a_row_for_every_batch_and_number_of_threads(tmp_path):
    steps = []
    measured = bench_latency(
        BUNDLE,
        LatencyOptions(ORT, batches=(1, 3), threads=(1, 2), plan=BRIEF, memory=False),
        lambda step, share: steps.append((step, share)),
    )
    assert [(row.subject["threads"], row.subject["batch"]) for row in measured.rows] == [
        *((1, 1), (1, 3), (2, 1), (2, 3))
    ]
    for row in measured.rows:
        metrics = row.metrics
        batch = row.subject["batch"]
        assert row.subject["model"] == "arbex-nano"
        assert metrics["latency_ms"]["runs"] == 3
        assert metrics["images_per_s"] == pytest.approx(1e3 * batch / metrics["latency_ms"]["p50"])
        assert metrics["file_bytes"] == (BUNDLE / "model.fp32.onnx").stat().st_size
        assert metrics["largest_deviation"] == 0.0
        assert metrics["ratio"]["value"] == 1.0
        assert metrics["ratio"]["to"] == "fp32 onnxruntime"
        assert list(metrics["stages_ms"]) == [
            *("detection", "alignment", "preprocessing", "inference", "post")
        ]
        assert {stage["runs"] for stage in metrics["stages_ms"].values()} == {3}
        means = sum(stage["mean"] for stage in metrics["stages_ms"].values())
        assert means == pytest.approx(metrics["end_to_end_ms"]["mean"], rel=0.05)
    assert ("2 cases, 1 thread: model", 1.0) in steps
    assert ("2 cases, 2 threads: end to end", 1.0) in steps
    append_results(tmp_path / "rows.jsonl", measured.rows)
    assert read_results(tmp_path / "rows.jsonl").rows == measured.rows


def test_all_cases_take_turns(monkeypatch):
    """A B A B: two batches, each call of one between two of the other."""
    order = []
    run = Session.run

    def spy(self, batch, record=None):
        order.append(len(batch))
        return run(self, batch, record)

    monkeypatch.setattr(Session, "run", spy)
    bench_latency(BUNDLE, LatencyOptions(ORT, batches=(1, 2), plan=BRIEF, stages=False, memory=False))
    timed = [size for size in order if size <= 2]
    assert timed[: 2 * (1 + 3)] == [1, 2] * (1 + 3)


def test_without_stages_nothing_is_detected(monkeypatch):
    monkeypatch.setattr(latency, "HaarDetector", None)
    (row,) = bench_latency(BUNDLE, LatencyOptions(ORT, plan=BRIEF, stages=False, memory=False)).rows
    assert "stages_ms" not in row.metrics
    assert "end_to_end_ms" not in row.metrics


def test_peak_memory_and_flushed_caches_are_in_the_row():
    (row,) = bench_latency(BUNDLE, LatencyOptions(ORT, plan=BRIEF, stages=False, flush=True)).rows
    assert 30 < row.metrics["peak_memory_mb"] < 400
    assert row.subject["caches"] == "flushed"


def test_opencv_gets_the_threads_of_the_model_and_its_own_back(monkeypatch):
    seen = []
    monkeypatch.setattr(latency, "scene", lambda count: seen.append(cv2.getNumThreads()) or scene(count))
    before = cv2.getNumThreads()
    bench_latency(BUNDLE, LatencyOptions(ORT, threads=(1,), plan=BRIEF, memory=False))
    assert seen == [1]
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_scene_shows_as_many_faces_as_the_batch(count):
    image = scene(count)
    check_found(image, HaarDetector(), count)
    with pytest.raises(EdgefelError, match=f"finds {count} of the {count + 1} faces"):
        check_found(image, HaarDetector(), count + 1)


def test_a_batch_that_no_image_shows_has_no_stages(monkeypatch):
    monkeypatch.setattr(latency, "MOST_FACES", 2)
    options = LatencyOptions(ORT, plan=BRIEF, memory=False)
    for batches, staged in (((3,), [False]), ((3, 1), [False, True])):
        rows = bench_latency(BUNDLE, dataclasses.replace(options, batches=batches)).rows
        assert ["stages_ms" in row.metrics for row in rows] == staged
        notes = [
            "not measured end to end: a synthetic image shows 2 faces at most" in row.notes for row in rows
        ]
        assert notes == [not with_stages for with_stages in staged]


def test_the_pipeline_gives_what_labelling_gives_and_its_stages_are_the_whole():
    image, detector = scene(3), HaarDetector()
    ticks = itertools.count(0, 10**12)  # so slow a clock that what the session records does not show
    with Session.open(BUNDLE, backend="onnxruntime", threads=1) as session:
        pipeline = Pipeline(image, detector, session, lambda: next(ticks))
        for _ in range(3):
            labelled = pipeline()
        assert labelled == label_faces(image, detector, session)
    timings = pipeline.timings(2)
    assert {timing.runs for timing in timings.values()} == {2}
    for call in range(2):
        stages = {name: timing.durations[call] for name, timing in timings.items()}
        assert sum(stages.values()) == pytest.approx(3e6)
        assert (stages["detection"], stages["alignment"]) == (1e6, 1e6)
        assert 0 < stages["inference"] < 1e4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": (0,)}, "batches 0: give numbers of at least 1"),
        ({"threads": ()}, "threads none: give numbers of at least 1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(EdgefelError, match=message):
        LatencyOptions(**options)


class Package:
    """A processor's energy counter (RAPL) that each call of `work` moves by 2 J, in half a second."""

    def __init__(self, root: Path) -> None:
        folder = root / "sys/class/powercap/intel-rapl:0"
        folder.mkdir(parents=True)
        (folder / "name").write_text("package-0\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        self.file, self.joules, self.now = folder / "energy_uj", 5.0, 100.0
        self.board = None
        self.write()
        self.board = Board.find(root)

    def write(self) -> None:
        self.file.write_text(f"{round(self.joules * 1e6)}\n")

    def work(self) -> None:
        self.joules += 2.0
        self.now += 0.5
        self.write()


def test_energy_is_that_of_one_call(tmp_path):
    package = Package(tmp_path)
    found = measure_energy(package.work, 3.0, package.board, lambda: package.now)
    assert found is not None
    assert package.joules == 5.0 + 2.0 * 6
    assert found[0] == pytest.approx(2.0)
    assert found[1] == "energy by rapl package-0: the processor package alone, idle power included"


def test_a_board_without_a_meter_has_no_energy(tmp_path):
    called = []
    assert measure_energy(lambda: called.append(1), 1.0, Board.find(tmp_path)) is None
    assert called == []


def test_energy_of_an_image_is_in_the_row_with_what_it_is_of(tmp_path, monkeypatch):
    package = Package(tmp_path)
    monkeypatch.setattr(
        latency,
        "measure_energy",
        lambda call, seconds: measure_energy(package.work, 1.0, package.board, lambda: package.now),
    )
    (row,) = bench_latency(
        BUNDLE, LatencyOptions(ORT, batches=(4,), plan=BRIEF, stages=False, memory=False)
    ).rows
    assert row.metrics["energy_mj"] == pytest.approx(2000 / 4)
    assert any("the processor package alone" in note for note in row.notes)
