"""Readings of boards, of half a board and of none."""

from __future__ import annotations

import json
import os
import shutil
import threading

import fake_boards
import pytest

from edgefel.runtime.telemetry.board import Board, Reading, process_memory_mb
from edgefel.runtime.telemetry.sysfs import read_int, read_text


@pytest.fixture
def orin(tmp_path):
    """An Orin Nano; the pipe of its thermal zone that is switched off is held open."""
    root = fake_boards.orin_nano(tmp_path)
    writer = os.open(root / "sys/class/thermal/thermal_zone9/temp", os.O_RDWR)
    yield root
    os.close(writer)


def test_a_sensor_that_is_switched_off_neither_blocks_nor_raises(orin):
    """EAGAIN, for real: Python's text layer would raise a TypeError, and a blocking read would wait for ever."""
    zone = orin / "sys/class/thermal/thermal_zone9/temp"
    handle = os.open(zone, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(handle, 10)
    os.close(handle)
    assert read_text(zone) is None


def test_what_cannot_be_read_is_none(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    assert read_text(tmp_path / "none") is None
    assert read_text(tmp_path) is None
    assert read_text(tmp_path / "a\0b") is None
    assert read_int(tmp_path / "binary") is None


def test_an_orin_nano(orin):
    reading = Board.find(orin).read(0.0)
    assert reading.ram_total_mb == pytest.approx(7_800_000 * 1.024e-3)
    assert reading.ram_available_mb == pytest.approx(5_000_000 * 1.024e-3)
    assert reading.rss_mb == pytest.approx(20000 * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert (reading.gpu_mhz, reading.gpu_load) == (918.0, 0.643)
    assert reading.temperatures == {"cpu-thermal": 63.625, "gpu-thermal": 61.0, "tj-thermal": 63.625}
    assert reading.hottest == 63.625
    assert reading.power_w == pytest.approx(9.2503, rel=1e-4)
    assert str(reading.power_mode) == "25W"
    assert reading.power_mode.modes == {0: "15W", 1: "25W", 2: "MAXN_SUPER"}
    assert (reading.cpu_cap_mhz, reading.cpu_full_mhz) == (1344.0, 1728.0)
    assert reading.over_current == {"input voltage too low": 0, "peak current too high": 27}


def test_a_thor_has_no_load_and_its_video_engine_is_not_its_gpu(tmp_path):
    root = fake_boards.thor(tmp_path)
    reading = Board.find(root).read()
    assert (reading.gpu_mhz, reading.gpu_load) == (1575.0, None)
    assert (str(reading.power_mode), reading.power_source) == ("MAXN", "ina238 VIN")
    shutil.rmtree(root / "sys/class/devfreq/gpu-gpc-0")
    assert Board.find(root).read().gpu_mhz is None


def test_a_pc(tmp_path):
    root = fake_boards.kiosk(tmp_path)
    fake_boards.write(root, {"/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": 4})
    board = Board.find(root)
    assert board.read(0.0).temperatures == {"k10temp Tctl": 71.25}
    assert board.read(1.0).power_source == "rapl package-0 + package-1"
    assert board.read(2.0).power_mode is None
    assert board.read(3.0).over_current == {"processor too hot": 4}


def test_a_fan_that_turns_throttles_nothing_and_a_slow_clock_does(orin):
    board = Board.find(orin)
    assert board.read().throttled == ()
    fake_boards.write(orin, fake_boards.cooling(pwm_fan=3, cpufreq_cpu0=2, gpu_throttle_alert=1))
    assert board.read().throttled == ("cpufreq-cpu0", "gpu-throttle-alert")


def test_over_current_throttles_while_its_count_grows(orin):
    board = Board.find(orin)
    count = orin / "sys/class/hwmon/hwmon3/oc3_event_cnt"
    assert board.read().throttled == ()  # 27 of before
    count.write_text("30\n")
    assert board.read().throttled == ("peak current too high",)
    assert board.read().throttled == ()


def test_an_unknown_power_mode_has_its_number(orin):
    (orin / "var/lib/nvpmodel/status").write_text("pmode:0007 fmode:quiet\n")
    assert str(Board.find(orin).read().power_mode) == "mode 7"
    (orin / "var/lib/nvpmodel/status").write_text("nonsense\n")
    assert Board.find(orin).read().power_mode is None


def test_nothing_there_is_all_none(tmp_path):
    assert Board.find(tmp_path).read() == Reading()


@pytest.mark.parametrize("make", [fake_boards.orin_nano, fake_boards.thor, fake_boards.kiosk])
@pytest.mark.parametrize("text", ["", "garbage", "-", "99999999999999999999999", "1 2 3\n4: x"])
def test_garbage_in_every_file_harms_nothing(tmp_path, make, text):
    root = make(tmp_path)
    board = Board.find(root)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        path.write_text(text)
    for one in (board, Board.find(root)):
        json.dumps(one.read().to_dict(), allow_nan=False)
        json.dumps(one.read().to_dict(), allow_nan=False)


@pytest.mark.parametrize("make", [fake_boards.orin_nano, fake_boards.thor, fake_boards.kiosk])
def test_files_that_vanish_harm_nothing(tmp_path, make):
    root = make(tmp_path)
    board = Board.find(root)
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()
    reading = board.read()
    assert (reading.power_w, reading.gpu_mhz, reading.temperatures) == (None, None, {})


def test_a_reading_is_json(orin):
    document = json.loads(json.dumps(Board.find(orin).read(0.0).to_dict(), allow_nan=False))
    assert (document["power_mode"], document["power_w"]) == ("25W", 9.25)
    assert document["rails"]["VDD_SOC"] == pytest.approx(1.994)


def test_this_machine():
    reading = Board.find().read()
    assert reading.ram_total_mb > 100
    assert 5 < process_memory_mb() < reading.ram_total_mb


def test_several_threads_may_read_one_board(orin):
    board = Board.find(orin)
    readings = []

    def read() -> None:
        readings.extend(board.read().gpu_mhz for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert readings == [918.0] * 120
