"""Builds the wheel and checks its contents against the source tree.

A sub-package missing from pyproject.toml works in an editable install and is absent from the wheel; this
finds it. Run from the repository root.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# folder in the repository -> package once installed
PACKAGE_ROOTS = {"edgefel": "edgefel"} | {
    name: f"edgefel/{name}" for name in ("kernels", "export", "calib", "bench")
}
# files of the package that are no Python
DATA = ("py.typed", "deploy/device/*", "report/templates/*")


def expected_files() -> set[str]:
    """Python files of the source tree and DATA, under the names that the wheel must give them."""
    python = {
        f"{package}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, package in PACKAGE_ROOTS.items()
        for file in (ROOT / folder).rglob("*.py")
    }
    data = (file for pattern in DATA for file in (ROOT / "edgefel").glob(pattern) if file.is_file())
    return python | {file.relative_to(ROOT).as_posix() for file in data}


def problems(names: set[str]) -> list[str]:
    """What is wrong with a wheel that holds these files."""
    found = [f"missing from the wheel: {name}" for name in sorted(expected_files() - names)]
    top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    found += [f"unexpected top-level name: {name}" for name in sorted(top_level - {"edgefel"})]
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run([*command, "--disable-pip-version-check"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1024:.0f} KiB")
    found = problems(names)
    print("\n".join(found) or "every package is in the wheel, and nothing but edgefel at the top level")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
