"""Boards as folders: /sys, /proc, /etc and /var with the files that the real ones have.

Layouts: Orin Nano and AGX Orin from the Jetson Linux Developer Guide r36 and listings in
https://github.com/rbonghi/jetson_stats/issues/344 and /381; Thor from its issues 711, 820, 885 and pull request 900;
soctherm_oc from NVIDIA's soctherm-oc-event.c; RAPL from https://docs.kernel.org/power/powercap/powercap.html.
"""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = "MemTotal:        7800000 kB\nMemFree:          100000 kB\nMemAvailable:    5000000 kB\n"


def write(root: Path, files: dict[str, object]) -> Path:
    """Writes each value as the text of the file at that absolute path below `root`."""
    for name, value in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def ina3221(number: int, *rails: tuple[str, int, int]) -> dict[str, object]:
    """hwmon files of a chip; each rail is (label, mV, mA). 7 is the sum of the shunts, as the driver names it."""
    chip = f"/sys/class/hwmon/hwmon{number}"
    files: dict[str, object] = {f"{chip}/name": "ina3221", f"{chip}/in7_label": "sum of shunt voltages"}
    files[f"{chip}/in7_input"] = 999
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files[f"{chip}/in{channel}_label"] = label
        files[f"{chip}/in{channel}_input"] = millivolts
        files[f"{chip}/curr{channel}_input"] = milliamperes
    return files


def zones(**temperatures: object) -> dict[str, object]:
    """Thermal zones in millidegrees; cpu_thermal becomes cpu-thermal."""
    files: dict[str, object] = {}
    for number, (name, value) in enumerate(temperatures.items()):
        files[f"/sys/class/thermal/thermal_zone{number}/type"] = name.replace("_", "-")
        files[f"/sys/class/thermal/thermal_zone{number}/temp"] = value
    return files


def cooling(**states: int) -> dict[str, object]:
    """Cooling devices with their state."""
    files: dict[str, object] = {}
    for number, (name, state) in enumerate(states.items()):
        files[f"/sys/class/thermal/cooling_device{number}/type"] = name.replace("_", "-")
        files[f"/sys/class/thermal/cooling_device{number}/cur_state"] = state
    return files


def orin_nano(root: Path) -> Path:
    """Jetson Orin Nano Super, JetPack 6.2, at 25 W of three modes."""
    files = {
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        "/etc/nvpmodel.conf": (
            "< PARAM TYPE=FILE NAME=CPU_ONLINE >\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
            "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >"
        ),
        "/var/lib/nvpmodel/status": "pmode:0001",
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
        "/proc/meminfo": MEMINFO,
        "/proc/self/statm": "50000 20000 5000 1 0 30000 0",
        "/sys/class/devfreq/17000000.gpu/cur_freq": 918000000,
        "/sys/class/devfreq/17000000.gpu/device/load": 643,
        "/sys/class/devfreq/15340000.vic/cur_freq": 115200000,
        "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": 1344000,
        "/sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": 1728000,
        "/sys/class/hwmon/hwmon3/name": "soctherm_oc",
        "/sys/class/hwmon/hwmon3/oc1_event_cnt": 0,
        "/sys/class/hwmon/hwmon3/oc3_event_cnt": 27,
    }
    files |= ina3221(1, ("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4984, 600), ("VDD_SOC", 4984, 400))
    files |= zones(cpu_thermal=63625, gpu_thermal=61000, cv0_thermal=-256000, tj_thermal=63625)
    files |= cooling(pwm_fan=2, cpufreq_cpu0=0, gpu_throttle_alert=0, hot_surface_alert=1)
    write(root, files)
    # a zone that is switched off answers EAGAIN; so does a pipe that has a writer and nothing in it
    zone = root / "sys/class/thermal/thermal_zone9"
    zone.mkdir()
    (zone / "type").write_text("cv1-thermal\n")
    os.mkfifo(zone / "temp")
    return root


def agx_orin(root: Path) -> Path:
    """Jetson AGX Orin: three rails are the input; the second chip measures what comes out of the third."""
    files = ina3221(2, ("VDD_GPU_SOC", 19880, 200), ("VDD_CPU_CV", 19880, 100), ("VIN_SYS_5V0", 5000, 800))
    files |= ina3221(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 0, 0))
    return write(root, files)


def thor(root: Path) -> Path:
    """Jetson AGX Thor, JetPack 7.2, without limits."""
    files = {
        "/etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64",
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >",
        "/var/lib/nvpmodel/status": "pmode:0000",
        "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "/proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
        "/proc/meminfo": MEMINFO.replace("7800000", "128000000").replace("5000000", "100000000"),
        "/sys/class/devfreq/gpu-gpc-0/cur_freq": 1575000000,
        "/sys/class/devfreq/gpu-nvd-0/cur_freq": 1692000000,
        "/sys/class/hwmon/hwmon5/name": "ina238",
        "/sys/class/hwmon/hwmon5/power1_input": 38500000,
    }
    files |= ina3221(
        4, ("VDD_GPU", 12000, 1000), ("VDD_CPU_SOC_MSS", 12000, 500), ("VIN_SYS_5V0", 5000, 1200)
    )
    return write(root, files | zones(cpu_thermal=53700, tj_thermal=55100))


def kiosk(root: Path) -> Path:
    """A PC: two packages whose energy may be read, and parts that must not be counted again."""
    files: dict[str, object] = {"/proc/meminfo": MEMINFO}
    for name, label, energy in (
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:0:0", "core", 500_000),
        ("intel-rapl:1", "package-1", 9_000_000),
        ("intel-rapl:2", "psys", 70_000_000),
        ("intel-rapl-mmio:0", "package-0", 1_000_000),
    ):
        folder = f"/sys/class/powercap/{name}"
        files |= {f"{folder}/name": label, f"{folder}/energy_uj": energy}
        files[f"{folder}/max_energy_range_uj"] = 10_000_000
    files |= {"/sys/class/hwmon/hwmon0/name": "k10temp", "/sys/class/hwmon/hwmon0/temp1_input": 71250}
    files["/sys/class/hwmon/hwmon0/temp1_label"] = "Tctl"
    return write(root, files)
