"""What a measurement ran on: device, clocks, power mode, versions, commit."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefel import __version__
from edgefel.bench.results import Row, make_row
from edgefel.runtime.doctor.machine import Machine, installed_version
from edgefel.runtime.telemetry.board import Board
from edgefel.runtime.telemetry.sysfs import below, cpu_name, read_text
from edgefel.text import counted
from edgefel.workers import usable_cores

# distributions whose versions decide about speed
PACKAGES = (
    *("numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("torch", "triton", "onnx", "tensorrt", "tensorrt-rtx-cu13"),
)

# subject, metrics and notes of a row
Found = tuple[Mapping[str, Any], Mapping[str, Any], Sequence[str]]


def measured_rows(kind: str, found: Iterable[Found]) -> tuple[Row, ...]:
    """Rows of what a bench finds, on this machine as it is before the first measurement."""
    here = describe()
    return tuple(make_row(kind, subject, metrics, here, notes) for subject, metrics, notes in found)


def describe(root: Path = Path("/"), packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Plain JSON values; unknown ones are None. Rows of the same "device" may be compared.

    root: where /sys, /proc and /etc begin.
    """
    machine = Machine(root=root)
    reading = Board.find(root).read()
    gpu = machine.gpu.name if machine.gpu is not None else None
    cpu, cores = cpu_name(root), usable_cores()
    mode = None if reading.power_mode is None else str(reading.power_mode)
    device = [machine.model or gpu or cpu, counted(cores, "core"), *([mode] if mode else [])]
    return {
        "device": ", ".join(device),
        "cpu": cpu,
        "architecture": platform.machine(),
        "cores": cores,
        "board": machine.model,
        "gpu": gpu,
        "memory_mb": reading.ram_total_mb and round(reading.ram_total_mb),
        "power_mode": mode,
        "clocks": {
            "cpu_governor": read_text(below(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            "cpu_cap_mhz": reading.cpu_cap_mhz,
            "cpu_full_mhz": reading.cpu_full_mhz,
            "gpu_mhz": reading.gpu_mhz,
        },
        "throttled": list(reading.throttled),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {"edgefel": __version__}
        | {name: found for name in packages if (found := installed_version(name)) is not None},
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the checkout that this runs from, with "-dirty" where files differ from it; None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
