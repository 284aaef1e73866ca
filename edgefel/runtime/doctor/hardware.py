"""Checks of the board: Jetson Linux, memory, disk, cameras, power mode, temperature."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

from edgefel.errors import EdgefelError
from edgefel.files.cache import VARIABLE, cache_folder
from edgefel.runtime.doctor.check import Check
from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.telemetry.board import PowerMode, Reading
from edgefel.text import counted, one_line

LEAST_MEMORY_MB = 1000
LEAST_DISK_MB = 1000
# elements for --source csi and hardware decoding
PLUGINS = {
    "nvarguscamerasrc": "CSI cameras",
    "nvv4l2decoder": "decoding in hardware",
    "nvvidconv": "both",
    "gdppay": "both",
}
_JETSON_GSTREAMER = (
    "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad nvidia-l4t-gstreamer nvidia-l4t-multimedia nvidia-l4t-camera"
)


def board_checks(machine: Machine) -> Iterator[Check]:
    """Board, JetPack, processor."""
    if machine.is_jetson:
        yield Check("board", "ok", machine.model or "a Jetson without a name in its device tree")
        yield _jetpack(machine)
    cores = machine.cores()
    text = f"{machine.architecture}, {counted(cores, 'core')}"
    name = re.search(r"^model name\s*:\s*(.+)$", machine.text("/proc/cpuinfo") or "", re.M)
    yield Check("CPU", "ok", f"{text}, {name[1]}" if name else text)


def _jetpack(machine: Machine) -> Check:
    l4t = machine.l4t
    if l4t is None:
        found = "/etc/nv_tegra_release is missing, as in some containers; release unknown"
        return Check("JetPack", "note", found)
    meta = machine.run(["dpkg-query", "-W", "-f=${Version}", "nvidia-jetpack"])
    named = meta or (f"{l4t.jetpack}.x" if l4t.jetpack else "of unknown version")
    found = f"{named} (Jetson Linux {l4t})"
    if l4t.jetpack is not None and l4t.jetpack < 6:
        found += "; edgefel is made for JetPack 6 and 7"
        return Check("JetPack", "warn", found, "install JetPack 6 or later")
    return Check("JetPack", "ok", found)


def storage_checks(reading: Reading) -> Iterator[Check]:
    """Free memory, and disk for engines."""
    if reading.ram_available_mb is None or reading.ram_total_mb is None:
        yield Check("memory", "note", "/proc/meminfo does not say how much is free")
    else:
        found = f"{reading.ram_available_mb / 1e3:.1f} of {reading.ram_total_mb / 1e3:.1f} GB free"
        if reading.ram_available_mb < LEAST_MEMORY_MB:
            fix = "close other programs; without a desktop: sudo systemctl isolate multi-user"
            yield Check("memory", "warn", found, fix)
        else:
            yield Check("memory", "ok", found)
    yield _cache()


def _cache() -> Check:
    fix = f"set {VARIABLE} to a folder that can be written"
    try:
        folder = cache_folder("engines")
        free = shutil.disk_usage(folder).free / 1e6
    except (EdgefelError, OSError) as error:
        return Check("cache", "warn", one_line(str(error).split(";")[0]), fix)
    if not os.access(folder, os.W_OK):
        return Check("cache", "warn", f"{folder} cannot be written", fix)
    found = f"{folder}, {free / 1e3:.1f} GB free"
    if free < LEAST_DISK_MB:
        return Check("cache", "warn", found, f"free disk space, or {fix}")
    return Check("cache", "ok", found)


def camera_checks(machine: Machine) -> Iterator[Check]:
    """Cameras, and on a Jetson GStreamer for CSI cameras."""
    yield _cameras(machine)
    if machine.is_jetson:
        yield _gstreamer(machine)


def _cameras(machine: Machine) -> Check:
    devices = machine.paths("/dev/video*")
    if not devices:
        fix = "connect one; a CSI camera also needs: sudo /opt/nvidia/jetson-io/jetson-io.py"
        return Check("cameras", "note", "none (no /dev/video*)", fix if machine.is_jetson else None)
    names = {device: machine.text(f"/sys/class/video4linux/{device.name}/name") for device in devices}
    found = ", ".join(f"{device.name} {name or ''}".rstrip() for device, name in names.items())
    if any((name or "").startswith("vi-output") for name in names.values()):
        found += "; CSI: --source csi"
    closed = [device.name for device in devices if not machine.may_use(device)]
    if closed:
        fix = "sudo usermod -aG video $USER, then log in again"
        return Check("cameras", "warn", f"{found}; this user may not open {', '.join(closed)}", fix)
    return Check("cameras", "ok", found)


def _gstreamer(machine: Machine) -> Check:
    version = machine.run(["gst-launch-1.0", "--version"])
    if version is None:
        return Check("GStreamer", "warn", "gst-launch-1.0 is missing: no CSI camera", _JETSON_GSTREAMER)
    missing = {name: use for name, use in PLUGINS.items() if machine.run(["gst-inspect-1.0", name]) is None}
    first = version.splitlines()[0].removeprefix("gst-launch-1.0 ") if version else "of unknown version"
    if missing:
        needed = ", ".join(f"{name} ({use})" for name, use in missing.items())
        return Check("GStreamer", "warn", f"{first}, without {needed}", _JETSON_GSTREAMER)
    return Check("GStreamer", "ok", f"{first}, with {', '.join(PLUGINS)}")


def power_checks(reading: Reading) -> Iterator[Check]:
    """Power mode, sensors and throttling."""
    if reading.power_mode is not None:
        yield _power_mode(reading.power_mode)
    if reading.power_w is not None:
        yield Check("power", "ok", f"{reading.power_w:.1f} W ({reading.power_source})")
    elif reading.power_source is not None:
        yield Check("power", "ok", f"measured by {reading.power_source}")
    else:
        yield Check("power", "note", "no sensor that may be read: energy is not measured")
    yield _throttling(reading)


def _power_mode(mode: PowerMode) -> Check:
    def rank(number: int) -> tuple[int, int]:
        """MAXN_SUPER is the fastest, then MAXN, then the one with the most watts."""
        name = mode.modes[number]
        watts = re.search(r"(\d+)W", name)
        return (2 if name == "MAXN_SUPER" else name.startswith("MAXN"), int(watts[1]) if watts else 0)

    best = max(mode.modes, key=rank, default=None)
    if best is None or best == mode.number:
        return Check("power mode", "ok", str(mode))
    fix = f"sudo nvpmodel -m {best}, then sudo jetson_clocks to hold the clocks"
    return Check("power mode", "note", f"{mode}; {mode.modes[best]} is the fastest", fix)


def _throttling(reading: Reading) -> Check:
    heat = f"hottest {reading.hottest:.0f} °C" if reading.hottest is not None else "no temperature sensor"
    if reading.throttled:
        found = f"slowed down now by {', '.join(reading.throttled)}; {heat}"
        fix = "cool it better: a fan, more air; or a lower power mode, which is steadier"
        return Check("throttling", "warn", found, fix)
    events = {cause: number for cause, number in reading.over_current.items() if number}
    if events:
        said = ", ".join(f"{cause} {counted(number, 'time')}" for cause, number in events.items())
        fix = "a stronger power supply, if it goes on"
        return Check("throttling", "note", f"since the start {said}; {heat}", fix)
    return Check("throttling", "ok", f"none, {heat}")
