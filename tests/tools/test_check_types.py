"""mypy is shown the layout of the installed package."""

from __future__ import annotations

import subprocess
from pathlib import Path

import check_types


def test_mypy_sees_the_package_as_installed_and_its_exit_code_counts(monkeypatch):
    def mypy(command, cwd, env, check):
        package = Path(cwd, "edgefel")
        for name in ("kernels", "export", "calib", "bench"):
            assert (package / name / "__init__.py").read_text() == (
                check_types.ROOT / name / "__init__.py"
            ).read_text()
        assert (package / "cli" / "main.py").is_file()
        assert not (package / "__pycache__").exists()
        assert command[-2:] == ["-p", "edgefel"]
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", mypy)
    assert check_types.main() == 3
