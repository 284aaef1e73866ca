"""Which rails are the whole board's, what they draw, and the energy over time."""

from __future__ import annotations

import fake_boards
import pytest

from edgefel.runtime.telemetry.power import Power, RailMeter, RaplMeter, find_meter, find_rails


def set_current(root, chip: int, channel: int, milliamperes: object) -> None:
    (root / f"sys/class/hwmon/hwmon{chip}/curr{channel}_input").write_text(f"{milliamperes}\n")


def test_an_orin_nano_is_measured_at_its_input(tmp_path):
    power = find_meter(fake_boards.orin_nano(tmp_path)).read(0.0)
    assert power.watts == pytest.approx(4.984 * 1.856)
    assert power.source == "ina3221 VDD_IN"
    assert power.rails["VDD_SOC"] == pytest.approx(4.984 * 0.4)
    assert set(power.rails) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}


def test_an_agx_orin_is_the_sum_of_three_rails_and_counts_nothing_twice(tmp_path):
    power = find_meter(fake_boards.agx_orin(tmp_path)).read(0.0)
    assert power.watts == pytest.approx(19.88 * 0.2 + 19.88 * 0.1 + 5 * 0.8)
    assert power.source == "ina3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert power.rails["VDDQ_VDD2_1V8AO"] == pytest.approx(1.0)
    assert "NC" not in power.rails


def test_a_thor_is_measured_at_the_carrier_boards_input_or_else_at_the_modules(tmp_path):
    root = fake_boards.thor(tmp_path)
    power = find_meter(root).read(0.0)
    assert (power.watts, power.source) == (pytest.approx(38.5), "ina238 VIN")
    (root / "sys/class/hwmon/hwmon5/name").write_text("another\n")
    power = find_meter(root).read(0.0)
    assert power.watts == pytest.approx(12 + 6 + 6)
    assert power.source == "ina3221 VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"


def test_rails_that_nobody_knows_are_shown_and_not_summed(tmp_path):
    fake_boards.write(tmp_path, fake_boards.ina3221(0, ("VDD_ONE", 5000, 100), ("VDD_TWO", 5000, 200)))
    power = find_meter(tmp_path).read(0.0)
    assert (power.watts, power.source) == (None, None)
    assert power.rails == {"VDD_ONE": pytest.approx(0.5), "VDD_TWO": pytest.approx(1.0)}


def test_the_layout_of_jetpack_4(tmp_path):
    chip = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{chip}/rail_name_0": "POM_5V_IN", f"{chip}/in_power0_input": 3120}
    files |= {f"{chip}/rail_name_1": "POM_5V_GPU", f"{chip}/in_power1_input": 800}
    power = find_meter(fake_boards.write(tmp_path, files)).read(0.0)
    assert (power.watts, power.source) == (pytest.approx(3.12), "ina3221 POM_5V_IN")


def test_energy_is_the_area_below_the_straight_lines(tmp_path):
    root = fake_boards.write(tmp_path, fake_boards.ina3221(1, ("VDD_IN", 5000, 1000)))
    meter = find_meter(root)
    assert isinstance(meter, RailMeter)
    assert meter.read(10.0).joules == 0
    set_current(root, 1, 1, 2000)
    assert meter.read(12.0).joules == pytest.approx(2 * 7.5)
    assert meter.read(13.0).joules == pytest.approx(2 * 7.5 + 10)


@pytest.mark.parametrize("text", ["garbage", "", "12x"])
def test_a_rail_that_does_not_answer_leaves_a_gap_that_is_bridged(tmp_path, text):
    root = fake_boards.write(tmp_path, fake_boards.ina3221(1, ("VDD_IN", 5000, 1000)))
    meter = find_meter(root)
    meter.read(0.0)
    set_current(root, 1, 1, text)
    gap = meter.read(1.0)
    assert (gap.watts, gap.rails, gap.joules) == (None, {}, 0)
    set_current(root, 1, 1, "1000 ma")
    assert meter.read(2.0).joules == pytest.approx(10)


def test_a_sum_with_a_part_missing_is_not_known(tmp_path):
    root = fake_boards.agx_orin(tmp_path)
    meter = find_meter(root)
    (root / "sys/class/hwmon/hwmon2/curr3_input").unlink()
    power = meter.read(0.0)
    assert power.watts is None
    assert "VDD_GPU_SOC" in power.rails


def test_packages_of_a_pc_count_their_own_energy_and_wrap(tmp_path):
    root = fake_boards.kiosk(tmp_path)
    meter = find_meter(root)
    assert isinstance(meter, RaplMeter)
    first = meter.read(100.0)
    assert (first.watts, first.joules, first.source) == (None, 0.0, "rapl package-0 + package-1")
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("7000000\n")
    (root / "sys/class/powercap/intel-rapl:1/energy_uj").write_text("3000000\n")  # over the end at 10 J
    power = meter.read(102.0)
    assert power.joules == pytest.approx(6 + 4)
    assert power.watts == pytest.approx(5)
    assert power.rails == {"package-0": pytest.approx(3), "package-1": pytest.approx(2)}


def test_a_package_that_may_not_be_read_is_no_sensor(tmp_path):
    root = fake_boards.kiosk(tmp_path)
    for file in root.glob("sys/class/powercap/*/energy_uj"):
        file.unlink()
        file.mkdir()  # what root cannot be forbidden to read, it cannot read as a folder
    assert find_meter(root).read(0.0) == Power(None, None)


def test_no_sensors(tmp_path):
    assert find_rails(tmp_path) == {}
    assert find_meter(tmp_path).read(0.0) == Power(None, None)
