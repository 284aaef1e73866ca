"""Power of the whole board and of its rails, from the kernel's sensors.

Layouts, from the documentation of the drivers:

- INA3221 (Jetson Nano to Thor): hwmon `in{1,2,3}_label`, `in{1,2,3}_input` in mV, `curr{1,2,3}_input` in mA,
  https://docs.kernel.org/hwmon/ina3221.html; which rails a Jetson has is in the Jetson Linux Developer Guide,
  "Platform Power and Performance", "Power Monitors",
  https://docs.nvidia.com/jetson/archives/r36.3/DeveloperGuide/SD/PlatformPowerAndPerformance/JetsonOrinNanoSeriesJetsonOrinNxSeriesAndJetsonAgxOrinSeries.html
- INA3221 up to JetPack 4: `iio:deviceN/rail_name_K` and `in_powerK_input` in mW,
  https://docs.nvidia.com/jetson/archives/l4t-archived/l4t-3275/, "Power Management"
- INA238 (the input of the Thor kit's carrier board): hwmon `power1_input` in µW,
  https://docs.kernel.org/hwmon/ina238.html
- RAPL (x86): powercap `energy_uj`, which wraps at `max_energy_range_uj`,
  https://docs.kernel.org/power/powercap/powercap.html; usually for root alone
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgefel.runtime.telemetry.sysfs import entries, read_int, read_text

# Rails whose sum is the board's whole input; the first row whose rails all exist is used. A sum of all rails would
# count power before and after a regulator twice (VDDQ_VDD2_1V8AO is supplied by VIN_SYS_5V0).
# POM_5V_IN and VDD_IN: https://forums.developer.nvidia.com/t/power-consumption-monitoring/73608/8
# VIN: https://github.com/rbonghi/jetson_stats/pull/900
# AGX Orin: https://forums.developer.nvidia.com/t/tegrastats-monitoring/217088/4
# Xavier: https://github.com/energymon/energymon/blob/master/jetson/README.md
TOTALS = (
    ("VIN",),
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)


@dataclass(frozen=True)
class Power:
    """One reading. watts: input of the whole board, None if unknown. source: name of the sensor, such as
    "ina3221 VDD_IN". rails: watts by rail. joules: energy since the meter's first reading."""

    watts: float | None
    source: str | None
    rails: Mapping[str, float] = field(default_factory=dict)
    joules: float = 0.0


@dataclass(frozen=True)
class Rail:
    """Files of one rail, and the watts that 1 stands for: of its power, or of the product of voltage and current."""

    chip: str
    label: str
    files: tuple[Path, ...]
    unit: float

    def watts(self) -> float | None:
        """Current watts; None if the sensor does not answer."""
        values = [value for file in self.files if (value := read_int(file)) is not None]
        return math.prod(values) * self.unit if len(values) == len(self.files) else None


def find_rails(root: Path) -> dict[str, Rail]:
    """The rails of every INA3221 and INA238, by label."""
    found = []
    for chip in entries(root, "/sys/class/hwmon/hwmon*"):
        name = read_text(chip / "name") or ""
        if name == "ina3221":
            found += _ina3221(chip)
        elif name == "ina238" and (chip / "power1_input").exists():
            label = read_text(chip / "label") or read_text(chip / "in1_label") or "VIN"
            found.append(Rail(name, label, (chip / "power1_input",), unit=1e-6))
    for file in entries(root, "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
        number = file.name.rsplit("_", 1)[1]
        label = read_text(file) or file.name
        found.append(Rail("ina3221", label, (file.with_name(f"in_power{number}_input"),), unit=1e-3))
    rails: dict[str, Rail] = {}
    for rail in found:
        rails.setdefault(rail.label, rail)
    return rails


def _ina3221(chip: Path) -> list[Rail]:
    rails = []
    for number in (1, 2, 3):  # 7 is the sum of the shunt voltages, no rail
        label = read_text(chip / f"in{number}_label")
        if label and label != "NC":  # not connected
            files = (chip / f"in{number}_input", chip / f"curr{number}_input")  # mV and mA
            rails.append(Rail("ina3221", label, files, unit=1e-6))
    return rails


class RailMeter:
    """Power of the rails, and energy by the trapezoidal rule. Not thread-safe."""

    def __init__(self, rails: Mapping[str, Rail]) -> None:
        self._rails = dict(rails)
        self._total = next((names for names in TOTALS if set(names) <= set(rails)), ())
        chips = {rails[name].chip for name in self._total}
        self.source = f"{'/'.join(sorted(chips))} {' + '.join(self._total)}" if self._total else None
        self._joules = 0.0
        self._last: tuple[float, float] | None = None

    def read(self, now: float) -> Power:
        """Watts at `now`, in seconds of a monotonic clock, of each rail that answers, and of the board if all rails of
        its sum do."""
        values = {name: rail.watts() for name, rail in self._rails.items()}
        rails = {name: watts for name, watts in values.items() if watts is not None}
        if not self._total or not set(self._total) <= set(rails):
            return Power(None, self.source, rails, self._joules)
        watts = sum(rails[name] for name in self._total)
        if self._last is not None:
            before, then = self._last
            self._joules += (watts + before) / 2 * (now - then)
        self._last = (watts, now)
        return Power(watts, self.source, rails, self._joules)


class RaplMeter:
    """Energy counters of the processor packages; power is the mean since the previous reading. Not thread-safe."""

    def __init__(self, packages: Mapping[str, Path]) -> None:
        self._packages = dict(packages)
        self.source = f"rapl {' + '.join(packages)}"
        self._joules = 0.0
        self._last: tuple[dict[str, int], float] | None = None

    def read(self, now: float) -> Power:
        """Watts since the previous reading; None at the first one, and if a counter cannot be read."""
        counts = {name: read_int(folder / "energy_uj") for name, folder in self._packages.items()}
        whole = {name: count for name, count in counts.items() if count is not None}
        if len(whole) < len(counts):
            return Power(None, self.source, {}, self._joules)
        last, self._last = self._last, (whole, now)
        if last is None or now <= last[1]:
            return Power(None, self.source, {}, self._joules)
        used = {name: self._since(name, last[0][name], count) for name, count in whole.items()}
        self._joules += sum(used.values())
        rails = {name: joules / (now - last[1]) for name, joules in used.items()}
        return Power(sum(rails.values()), self.source, rails, self._joules)

    def _since(self, name: str, before: int, count: int) -> float:
        if count < before:
            count += read_int(self._packages[name] / "max_energy_range_uj") or before - count
        return (count - before) * 1e-6


def find_meter(root: Path) -> RailMeter | RaplMeter:
    """The board's power sensor: INA chips, else the readable RAPL packages, else one without rails."""
    rails = find_rails(root)
    packages: dict[str, Path] = {}
    for folder in entries(root, "/sys/class/powercap/intel-rapl:*"):
        name = read_text(folder / "name") or ""
        # the others are parts of a package, or (psys) the platform as each vendor defines it
        if name.startswith("package") and read_int(folder / "energy_uj") is not None:
            packages[name] = folder
    return RaplMeter(packages) if packages and not rails else RailMeter(rails)
