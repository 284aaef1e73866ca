"""TensorRT's real Python packages, each over the stub of libnvinfer.

`tools/ci/tensorrt_bindings.sh` puts them into the cache folder. A process can import one of them, so each has
processes of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "tools/ci/tensorrt_bindings.sh"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
HERE = Path(__file__).parent


def versions() -> list[str]:
    """Of the packages that the script fetches."""
    lines = (ROOT / SCRIPT).with_suffix(".txt").read_text().splitlines()
    return [line.rpartition("==")[2] for line in lines if not line.startswith("#")]


def cache() -> Path:
    """Where the script puts them for this Python."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "edgefel-ci" / "tensorrt-bindings" / "cp{}{}".format(*sys.version_info)


def compile_stub(folder: Path) -> None:
    """The stub under the names that all versions link to."""
    folder.mkdir()
    source = HERE / "libnvinfer.c"
    for major in sorted({version.partition(".")[0] for version in versions()}):
        first = folder / f"lib{LIBRARIES[0]}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", first, source], check=True, timeout=60)
        for name in LIBRARIES[1:]:
            (folder / f"lib{name}.so.{major}").symlink_to(first.name)


@dataclass(frozen=True)
class Bindings:
    """One version. folder: of the package; libraries: of the stub."""

    version: str
    folder: Path
    libraries: Path

    @property
    def numbers(self) -> tuple[int, ...]:
        """Major and minor version."""
        return tuple(int(part) for part in self.version.split(".")[:2])

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process that finds this package, the stub, and the helpers of the tests."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        # both are searched in this order; libraries may come first by `more`
        libraries = [more.pop("LD_LIBRARY_PATH", ""), str(self.libraries)]
        own |= {
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(HERE.parent), *filter(None, sys.path)]),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        }
        return own | more

    def run(self, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments, and more environment variables."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )

    def ask(self, *arguments: object, **more: str) -> Any:
        """What a program of `run` prints last, as JSON."""
        result = self.run(*arguments, **more)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])


def find(version: str, libraries: Path) -> Bindings:
    """That version; skips the test where it is not here."""
    folder = cache() / version
    if not folder.is_dir():
        pytest.skip(f"TensorRT's Python package {version} is not here; {SCRIPT} {sys.executable} fetches it")
    return Bindings(version, folder, libraries)
