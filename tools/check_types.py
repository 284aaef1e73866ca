"""Runs mypy on the package as it looks once installed.

kernels/, export/, calib/ and bench/ are sub-packages of edgefel after installation only, and mypy does not
follow the import hooks of an editable install. A folder of links shows it the installed layout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lay_out(folder: Path) -> None:
    """Makes `edgefel` in an empty folder, of links to the sources."""
    package = folder / "edgefel"
    package.mkdir()
    for entry in (ROOT / "edgefel").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    for name in ("kernels", "export", "calib", "bench"):
        (package / name).symlink_to(ROOT / name)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        config = ["--config-file", str(ROOT / "pyproject.toml")]
        command = [sys.executable, "-m", "mypy", *config, "-p", "edgefel"]
        environment = os.environ | {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
