"""What is printed at the end of a run."""

from __future__ import annotations

import io

import fake_boards
import pytest
from rich.console import Console

from edgefel.runtime.telemetry.board import Board, Reading
from edgefel.runtime.telemetry.snapshot import Snapshot, summary_lines, summary_table
from edgefel.runtime.telemetry.telemetry import Telemetry


def printed(snapshot: Snapshot) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary_table(snapshot))
    return stream.getvalue()


def test_the_table_has_a_row_for_each_stage_in_order():
    telemetry = Telemetry()
    for _ in range(1500):
        telemetry.record("total", 0.02)
        telemetry.record("detect", 0.0125)
    text = printed(telemetry.snapshot())
    assert text.index("detect") < text.index("total")
    (row,) = [line for line in text.splitlines() if "detect" in line]
    assert row.replace("│", " ").split() == ["detect", "1,500", "12.50", "12.50", "12.50", "12.50", "12.50"]


def test_lines_below_say_what_is_known():
    reading = Reading(power_w=9.0, power_source="ina3221 VDD_IN", throttled=("cpufreq-cpu0",))
    snapshot = Snapshot(
        time=0.0,
        elapsed=60.0,
        stages={},
        counters={"frames": 1800, "dropped": 3, "missing": 0},
        gauges={},
        fps=30.0,
        fps_mean=29.97,
        board=reading,
        ram_mb=412.4,
        energy_j=540.0,
        power_mean_w=9.0,
        mj_per_inference=100.0,
        hottest_c=71.2,
        throttled_s=4.0,
    )
    assert summary_lines(snapshot) == [
        "60.0 s, 30.0 frames per second",
        "frames 1,800, dropped 3",
        "memory 412 MB",
        "power 9.00 W, energy 540.0 J, 100.0 mJ per inference (ina3221 VDD_IN)",
        "hottest 71 °C, throttled for 4 s (cpufreq-cpu0)",
    ]


@pytest.mark.parametrize("board", [None, "nothing"])
def test_what_is_not_known_is_left_out(tmp_path, board):
    telemetry = Telemetry(None if board is None else Board.find(tmp_path))
    (first, memory) = summary_lines(telemetry.snapshot())
    assert first.endswith("0.0 frames per second")
    assert memory.startswith("memory")


def test_the_power_mode_is_named(tmp_path):
    telemetry = Telemetry(Board.find(fake_boards.thor(tmp_path)))
    assert "hottest 55 °C, power mode MAXN" in printed(telemetry.snapshot())
