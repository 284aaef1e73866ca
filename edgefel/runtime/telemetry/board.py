"""Readings of a board: memory, GPU, temperatures, power, power mode, throttling.

They come from sysfs and procfs, without root and without tegrastats; unavailable values are None.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgefel.runtime.telemetry.power import find_meter
from edgefel.runtime.telemetry.sysfs import below, entries, read_int, read_text

# 17000000.ga10b (Orin, JetPack 5), 17000000.gpu (JetPack 6), gpu-gpc-0 (Thor); not gpu-nvd-0, Thor's video engines:
# https://github.com/rbonghi/jetson_stats/issues/885
_GPU_NAME = re.compile(r"gpu-gpc-\d+|.*\.(gpu|ga10b|gv11b|gp10b|gm20b)")
# fans and the alert of a hot case are cooling devices too, but do not throttle
_SLOWING = re.compile(
    r"(thermal-)?(cpufreq|devfreq)|processor|.*throttle|(cpu|gpu|cv|soc|emc).*(alert|balanced)", re.IGNORECASE
)
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower")
# Jetson Linux Developer Guide, "Platform Power and Performance", "OC Event Count"
OVER_CURRENT = {
    "oc1": "input voltage too low",
    "oc2": "average current too high",
    "oc3": "peak current too high",
}
# a zone that is switched off may report -256 °C: https://github.com/rbonghi/jetson_stats/issues/350
_COLDEST, _HOTTEST = -100.0, 200.0


@dataclass(frozen=True)
class PowerMode:
    """A Jetson's power mode (nvpmodel): number, name if the configuration has one, and the names of all modes."""

    number: int
    name: str | None
    modes: Mapping[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name or f"mode {self.number}"


@dataclass(frozen=True)
class Reading:
    """The state of a board at one moment; unavailable values are None or empty mappings.

    ram_total_mb, ram_available_mb, rss_mb: memory of the board and of this process, in 10^6 bytes. gpu_load: 0 to 1.
    temperatures: °C by zone. power_w: input of the whole board, measured by `power_source` ("ina3221 VDD_IN"; "rapl
    package-0" is only the processor). rails: watts by rail. energy_j: since the board was first read. power_mode: of
    nvpmodel. throttled: current causes of throttling. over_current: events by cause since boot. cpu_cap_mhz,
    cpu_full_mhz: allowed and maximum clock of the CPU; power modes and heat lower the former.
    """

    ram_total_mb: float | None = None
    ram_available_mb: float | None = None
    rss_mb: float | None = None
    gpu_mhz: float | None = None
    gpu_load: float | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)
    power_w: float | None = None
    power_source: str | None = None
    rails: Mapping[str, float] = field(default_factory=dict)
    energy_j: float | None = None
    power_mode: PowerMode | None = None
    throttled: tuple[str, ...] = ()
    over_current: Mapping[str, int] = field(default_factory=dict)
    cpu_cap_mhz: float | None = None
    cpu_full_mhz: float | None = None

    @property
    def hottest(self) -> float | None:
        """The highest temperature, °C."""
        return max(self.temperatures.values(), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, rounded to the resolution of the sensors."""
        values = {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}
        if self.power_mode is not None:
            values["power_mode"] = str(self.power_mode)
        return values


class Board:
    """The sensors of a board, looked up once. `read` may be called from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._gpu = _find_gpu(root)
        self._zones = _find_zones(root)
        self._meter = find_meter(root)
        self._cooling = _find_cooling(root)
        self._events = _find_events(root)
        self._counted: dict[str, int] = {}
        self._modes = _power_modes(read_text(below(root, "/etc/nvpmodel.conf")) or "")

    @classmethod
    def find(cls, root: str | os.PathLike[str] = "/") -> Board:
        """The board of this machine. root: where /sys, /proc, /etc and /var are."""
        return cls(Path(root))

    def read(self, now: float | None = None) -> Reading:
        """Reads every sensor, which takes milliseconds on a Jetson. now: `time.monotonic()` by default."""
        with self._lock:
            total, available = _memory(self._root)
            mhz, load = self._read_gpu()
            power = self._meter.read(time.monotonic() if now is None else now)
            over_current, grown = self._read_events()
            slowed = [name for name, file in self._cooling if (read_int(file) or 0) > 0]
            cap, full = _cpu_clock(self._root)
            return Reading(
                ram_total_mb=total,
                ram_available_mb=available,
                rss_mb=process_memory_mb(self._root),
                gpu_mhz=mhz,
                gpu_load=load,
                temperatures=_temperatures(self._zones),
                power_w=power.watts,
                power_source=power.source,
                rails=power.rails,
                energy_j=power.joules if power.source else None,
                power_mode=self._read_mode(),
                throttled=tuple(dict.fromkeys([*slowed, *grown])),
                over_current=over_current,
                cpu_cap_mhz=cap,
                cpu_full_mhz=full,
            )

    def _read_gpu(self) -> tuple[float | None, float | None]:
        if self._gpu is None:
            return None, None
        clock, load = read_int(self._gpu / "cur_freq"), read_int(self._gpu / "device" / "load")
        if load is None:
            load = read_int(below(self._root, "/sys/devices/platform/gpu.0/load"))
        return None if clock is None else clock / 1e6, None if load is None else load / 1000

    def _read_mode(self) -> PowerMode | None:
        match = re.fullmatch(
            r"pmode:(\d+).*", read_text(below(self._root, "/var/lib/nvpmodel/status")) or "", re.DOTALL
        )
        if match is None:
            return None
        number = int(match[1])
        return PowerMode(number, self._modes.get(number), self._modes)

    def _read_events(self) -> tuple[dict[str, int], list[str]]:
        """Counts by cause since boot, and the causes that increased since the previous reading."""
        counts = {cause: count for cause, file in self._events if (count := read_int(file)) is not None}
        grown = [cause for cause, count in counts.items() if count > self._counted.get(cause, count)]
        self._counted.update(counts)
        return counts, grown


def process_memory_mb(root: Path = Path("/")) -> float | None:
    """Resident memory of this process in 10^6 bytes (second field of /proc/self/statm, in pages)."""
    fields = (read_text(below(root, "/proc/self/statm")) or "").split()
    if len(fields) < 2 or not fields[1].isdigit():
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _memory(root: Path) -> tuple[float | None, float | None]:
    """Total and available RAM in 10^6 bytes, from /proc/meminfo."""
    text = read_text(below(root, "/proc/meminfo")) or ""
    found = {name: int(kib) * 1024 / 1e6 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    return found.get("MemTotal"), found.get("MemAvailable")


def _find_gpu(root: Path) -> Path | None:
    """The GPU's devfreq device: `cur_freq` in Hz; `device/load` in thousandths, not on Thor."""
    names = entries(root, "/sys/class/devfreq/*")
    return next((entry for entry in names if _GPU_NAME.fullmatch(entry.name)), None)


def _find_zones(root: Path) -> list[tuple[str, Path]]:
    """Names and files (millidegrees) of thermal zones, and of CPU sensors that are only in hwmon on x86.

    https://docs.kernel.org/driver-api/thermal/sysfs-api.html, https://docs.kernel.org/hwmon/sysfs-interface.html
    """
    zones = [
        (read_text(zone / "type") or zone.name, zone / "temp")
        for zone in entries(root, "/sys/class/thermal/thermal_zone*")
    ]
    for chip in entries(root, "/sys/class/hwmon/hwmon*"):
        if (name := read_text(chip / "name")) in _CPU_SENSORS:
            zones.append((f"{name} {read_text(chip / 'temp1_label') or ''}".rstrip(), chip / "temp1_input"))
    return zones


def _temperatures(zones: list[tuple[str, Path]]) -> dict[str, float]:
    """°C by zone; the hottest of zones with the same name."""
    found: dict[str, float] = {}
    for name, file in zones:
        value = read_int(file)
        if value is not None and _COLDEST < value / 1000 < _HOTTEST:
            found[name] = max(value / 1000, found.get(name, _COLDEST))
    return found


def _find_cooling(root: Path) -> list[tuple[str, Path]]:
    """Cooling devices that throttle; they are active while `cur_state` is above 0."""
    devices = entries(root, "/sys/class/thermal/cooling_device*")
    kinds = [(read_text(device / "type") or "", device / "cur_state") for device in devices]
    return [(kind, state) for kind, state in kinds if _SLOWING.match(kind)]


def _find_events(root: Path) -> list[tuple[str, Path]]:
    """Counters since boot: hwmon `soctherm_oc` on a Jetson, thermal throttling of the package on x86.

    Source of the former: soctherm-oc-event.c of NVIDIA's kernel, and the Developer Guide (see OVER_CURRENT).
    """
    found = []
    for chip in entries(root, "/sys/class/hwmon/hwmon*"):
        for file in entries(chip, "oc*_event_cnt"):
            name = file.name.split("_", 1)[0]
            found.append((OVER_CURRENT.get(name, name), file))
    heat = below(root, "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")
    return [*found, ("processor too hot", heat)] if heat.exists() else found


def _power_modes(configuration: str) -> dict[int, str]:
    """Names of power modes in /etc/nvpmodel.conf: lines "< POWER_MODEL ID=2 NAME=MAXN_SUPER >"."""
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", configuration, re.M)
    return {int(number): name for number, name in found}


def _cpu_clock(root: Path) -> tuple[float | None, float | None]:
    """Allowed and maximum clock in MHz of the core with the lowest ratio of both (cpufreq, in kHz)."""
    clocks = [
        (cap / 1000, full / 1000)
        for policy in entries(root, "/sys/devices/system/cpu/cpufreq/policy*")
        if (cap := read_int(policy / "scaling_max_freq")) and (full := read_int(policy / "cpuinfo_max_freq"))
    ]
    return min(clocks, key=lambda clock: clock[0] / clock[1], default=(None, None))
