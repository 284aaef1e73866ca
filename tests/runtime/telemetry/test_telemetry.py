"""What a run counts: stages, frames per second, energy, from any number of threads and in constant memory."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
import tracemalloc

import fake_boards
import pytest
from fake_clock import Clock

from edgefel.runtime.telemetry import telemetry as telemetry_module
from edgefel.runtime.telemetry.board import Board, Reading
from edgefel.runtime.telemetry.telemetry import Telemetry, _FrameRate, _Samples


def test_stages_counters_and_gauges():
    telemetry = Telemetry()
    for milliseconds in range(1, 101):
        telemetry.record("detect", milliseconds / 1e3)
    telemetry.count("faces", 3)
    telemetry.count("faces")
    telemetry.set("queue detect", 2)
    telemetry.set("queue detect", 1)
    snapshot = telemetry.snapshot()
    detect = snapshot.stages["detect"]
    assert (detect.count, detect.max, detect.mean) == (100, 100.0, pytest.approx(50.5))
    assert detect.p50 == pytest.approx(50.5, rel=0.011)
    assert detect.p99 == pytest.approx(99.01, rel=0.011)
    assert (snapshot.counters, snapshot.gauges) == ({"faces": 4}, {"queue detect": 1.0})
    assert (snapshot.board, snapshot.energy_j, snapshot.mj_per_inference) == (None, None, None)
    assert snapshot.ram_mb > 5


def test_stages_come_in_the_order_of_a_frames_way_and_unknown_ones_behind():
    telemetry = Telemetry()
    for stage in ("sinks", "total", "gpu", "capture", "another"):
        telemetry.record(stage, 0.001)
    assert list(telemetry.snapshot().stages) == ["capture", "gpu", "total", "sinks", "another"]


def test_a_snapshot_is_json_whatever_was_set():
    telemetry = Telemetry()
    telemetry.set("broken", math.nan)
    telemetry.record("detect", 1 / 3)
    document = json.loads(json.dumps(telemetry.snapshot().to_dict(), allow_nan=False))
    assert document["gauges"] == {"broken": None}
    assert document["stages_ms"]["detect"]["max"] == 333.3333


def test_a_snapshot_does_not_change():
    telemetry = Telemetry()
    telemetry.record("detect", 0.001)
    telemetry.count("frames")
    snapshot = telemetry.snapshot()
    telemetry.record("detect", 9.0)
    telemetry.count("frames")
    assert (snapshot.stages["detect"].count, snapshot.counters) == (1, {"frames": 1})


@pytest.mark.parametrize("interval", [0, -1, math.nan])
def test_an_interval_of_nothing_is_refused(interval):
    with pytest.raises(ValueError, match="must be above 0"):
        Telemetry(interval=interval)


def test_names_that_never_end_are_refused():
    telemetry = Telemetry()
    for method in (
        telemetry.count,
        lambda name: telemetry.record(name, 1.0),
        lambda name: telemetry.set(name, 1),
    ):
        for number in range(256):
            method(f"face {number}")
        method("face 7")
        with pytest.raises(ValueError, match="'face 256': there are 256 names already"):
            method("face 256")


def test_threads_lose_nothing():
    telemetry = Telemetry()

    def work() -> None:
        for _ in range(2000):
            telemetry.record("detect", 0.002)
            telemetry.count("frames")
            telemetry.set("tracks", 3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        telemetry.snapshot()
    for thread in threads:
        thread.join()
    snapshot = telemetry.snapshot()
    assert snapshot.stages["detect"].count == snapshot.counters["frames"] == 16000


def test_memory_does_not_grow():
    telemetry = Telemetry()

    def run(number: int) -> None:
        for index in range(number):
            telemetry.record("detect", 1e-3 * (1 + index % 997))
            telemetry.count("frames")
            telemetry.set("tracks", index)

    run(1000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run(30_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # the frame rate keeps up to 64 marks; one float kept of each record would be 700 kB
    assert grown < 20_000


def frame_rate(times) -> _FrameRate:
    rate = _FrameRate()
    for now in times:
        rate.count(1, now)
    return rate


def test_frames_per_second_are_those_of_the_last_five_seconds():
    slow, fast = [0.1 * n for n in range(100)], [10 + n / 30 for n in range(300)]
    rate = frame_rate(slow + fast)
    assert rate.recent(fast[-1]) == pytest.approx(30, rel=1e-6)
    assert rate.mean() == pytest.approx(399 / fast[-1], rel=1e-6)


def test_frames_per_second_between_two_frames_are_steady_and_fall_when_frames_stop():
    times = [n / 30 for n in range(301)]
    rate = frame_rate(times)
    end = times[-1]
    assert rate.recent(end + 0.03) == pytest.approx(30, rel=1e-6)
    assert rate.recent(end + 1) == pytest.approx(30 * 4 / 5, rel=0.05)
    assert rate.recent(end + 10) == 0


@pytest.mark.parametrize("times", [[], [3.0], [3.0, 3.0]])
def test_too_few_frames_have_no_rate(times):
    rate = frame_rate(times)
    assert (rate.recent(4.0), rate.mean()) == (0.0, 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telemetry_module, "time", clock)
    return clock


def test_frames_of_a_running_stream_are_counted_by_the_clock(clock):
    telemetry = Telemetry()
    with telemetry:
        for _ in range(10):
            clock.now += 0.01
            telemetry.count("frames")
    snapshot = telemetry.snapshot()
    assert snapshot.fps_mean == pytest.approx(100)
    assert snapshot.elapsed == pytest.approx(0.1)
    clock.now += 1
    assert telemetry.snapshot().elapsed == snapshot.elapsed


def test_the_sampler_measures_the_energy_of_the_board(tmp_path, clock):
    root = fake_boards.write(tmp_path, fake_boards.ina3221(1, ("VDD_IN", 5000, 2000)))
    root = fake_boards.write(root, fake_boards.zones(tj_thermal=70000))
    with Telemetry(Board.find(root), interval=0.01) as telemetry:
        telemetry.count("inferences", 20)
        for degrees in (80, 60):
            (root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{degrees}000\n")
            clock.now += 1
            while telemetry.snapshot().board.temperatures.get("tj-thermal") != degrees:
                time.sleep(0.001)
        assert telemetry.power_w == pytest.approx(10)
    snapshot = telemetry.snapshot()
    assert snapshot.energy_j == pytest.approx(10 * 2)
    assert snapshot.power_mean_w == pytest.approx(10)
    assert snapshot.mj_per_inference == pytest.approx(1e3 * snapshot.energy_j / 20)
    assert snapshot.hottest_c == 80
    assert snapshot.board.temperatures == {"tj-thermal": 60}
    assert snapshot.board.power_source == "ina3221 VDD_IN"


def test_a_board_without_power_sensor_has_no_energy(tmp_path):
    with Telemetry(Board.find(tmp_path), interval=0.01) as telemetry:
        telemetry.count("inferences")
        snapshot = telemetry.snapshot()
    assert (snapshot.energy_j, snapshot.power_mean_w, snapshot.mj_per_inference) == (None, None, None)
    assert telemetry.power_w is None


def test_energy_of_a_package_counter_begins_with_the_first_reading():
    """RAPL knows no power at first; its energy since then counts all the same."""
    samples = _Samples()
    samples.add(Reading(energy_j=0.0), 0.0)
    assert samples.energy is None
    samples.add(Reading(energy_j=8.0, power_w=4.0), 2.0)
    assert (samples.energy, samples.power) == (8.0, 4.0)


def test_a_sensor_that_never_answers_measures_nothing():
    samples = _Samples()
    samples.add(Reading(energy_j=0.0), 0.0)
    samples.add(Reading(energy_j=0.0), 1.0)
    assert samples.energy is None


def test_time_in_which_the_board_was_slowed_down():
    samples = _Samples()
    for now, throttled in ((0.0, ()), (1.0, ("heat",)), (3.0, ("heat",)), (4.0, ())):
        samples.add(Reading(throttled=throttled), now)
    assert samples.throttled == 3.0


def test_a_snapshot_without_a_sampler_reads_the_board(tmp_path):
    root = fake_boards.write(tmp_path, fake_boards.zones(tj_thermal=70000))
    assert Telemetry(Board.find(root)).snapshot().hottest_c == 70


def test_starting_and_closing_twice(tmp_path):
    telemetry = Telemetry(Board.find(tmp_path), interval=0.01)
    threads = threading.active_count()
    telemetry.start()
    telemetry.start()
    assert threading.active_count() == threads + 1
    telemetry.close()
    telemetry.close()
    assert threading.active_count() == threads


def test_the_clock_starts_once(clock):
    telemetry = Telemetry()
    clock.now += 1
    telemetry.start()
    clock.now += 2
    telemetry.start()
    telemetry.close()
    assert telemetry.snapshot().elapsed == 2
    clock.now += 1
    telemetry.start()
    assert telemetry.snapshot().elapsed == 2


def test_a_record_is_cheap():
    """Two calls of Python's, however much was recorded before."""
    telemetry = Telemetry()

    def calls() -> int:
        seen = []
        sys.setprofile(lambda frame, event, argument: seen.append(event))
        try:
            telemetry.record("detect", 0.003)
        finally:
            sys.setprofile(None)
        return seen.count("call")

    calls()
    few = calls()
    for milliseconds in range(2000):
        telemetry.record("detect", milliseconds / 1e3)
    assert calls() == few == 2
