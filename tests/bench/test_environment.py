"""What a row says of the machine, read from boards that are folders."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import fake_boards
import pytest

from edgefel import __version__
from edgefel.bench import environment
from edgefel.bench.environment import commit, describe
from edgefel.bench.results import make_row, read_results
from edgefel.runtime.telemetry.sysfs import cpu_name


def test_a_jetson_is_named_with_its_power_mode(tmp_path):
    found = describe(fake_boards.orin_nano(tmp_path))
    assert found["device"] == (
        f"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, {found['cores']} cores, 25W"
    )
    assert found["board"].startswith("NVIDIA Jetson Orin Nano")
    assert found["power_mode"] == "25W"
    assert found["memory_mb"] == pytest.approx(7800000 * 1024 / 1e6, rel=0.05)
    assert found["clocks"] == {
        "cpu_governor": None,
        "cpu_cap_mhz": 1344.0,
        "cpu_full_mhz": 1728.0,
        "gpu_mhz": 918.0,
    }


def test_another_power_mode_is_another_device(tmp_path):
    root = fake_boards.orin_nano(tmp_path)
    before = describe(root)["device"]
    (root / "var/lib/nvpmodel/status").write_text("pmode:0002\n")
    assert describe(root)["device"] == before.replace("25W", "MAXN_SUPER")


def test_a_pc_is_named_by_its_processor_and_governor_is_read(tmp_path):
    root = fake_boards.write(
        fake_boards.kiosk(tmp_path),
        {
            "/proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD Ryzen Embedded V1605B\nflags\t: avx2\n",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
        },
    )
    found = describe(root, packages=())
    assert found["cpu"] == "AMD Ryzen Embedded V1605B"
    assert found["device"].endswith(f"{found['cores']} cores")
    assert found["gpu"] is not None or found["device"].startswith("AMD Ryzen Embedded V1605B, ")
    assert found["clocks"]["cpu_governor"] == "schedutil"
    assert found["power_mode"] is None


def test_a_machine_that_says_nothing_has_a_name_and_nones(tmp_path):
    found = describe(tmp_path, packages=())
    assert found["device"]
    assert cpu_name(tmp_path) in found["device"] or found["gpu"] is not None
    assert found["board"] is None
    assert found["memory_mb"] is None
    assert set(found["clocks"].values()) == {None}
    assert found["throttled"] == []


def test_versions_are_those_that_are_installed(tmp_path):
    found = describe(tmp_path, packages=("numpy", "no-such-distribution"))["versions"]
    import numpy

    assert found == {"edgefel": __version__, "numpy": numpy.__version__}


def test_it_is_json_and_makes_rows(tmp_path):
    found = describe(fake_boards.thor(tmp_path))
    made = make_row("train", {"model": "arbex"}, {"images_per_s": 3.0}, found)
    (tmp_path / "row.jsonl").write_text(json.dumps(made.to_dict(), allow_nan=False) + "\n")
    assert read_results(tmp_path / "row.jsonl").rows[0].device == found["device"]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.setattr(environment, "__file__", str(folder / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert commit() is None  # no checkout
    (folder / "environment.py").write_text("a = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    assert commit() == git(folder, "rev-parse", "--short=12", "HEAD")
    (folder / "environment.py").write_text("a = 2\n")
    assert commit() == git(folder, "rev-parse", "--short=12", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit() is None  # no git
