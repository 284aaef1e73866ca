"""The base install, without extras, in a clean environment: it labels pictures, and torch is not there."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(ROOT)]
    result = subprocess.run(
        [*command, "-c", str(ROOT / "constraints-dev.txt")], capture_output=True, text=True, check=False
    )
    if result.returncode and "Could not find a version" in result.stderr and "CI" not in os.environ:
        pytest.skip("no package index can be reached, so nothing can be installed")
    assert result.returncode == 0, result.stderr
    return python


def test_predict_works_and_torch_is_not_installed(clean_python, nano_bundle, tmp_path):
    crop = np.full((150, 120, 3), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "crop.png"), crop)
    command = [clean_python, "-m", "edgefel.cli.main", "predict", nano_bundle, tmp_path / "crop.png"]
    result = subprocess.run(
        [*map(str, command), "--no-detect", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    (face,) = json.loads(result.stdout)["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    missing = subprocess.run(
        [clean_python, "-c", "import torch"], capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in missing.stderr


def test_commands_that_need_more_say_what_to_install(clean_python, tmp_path):
    for command in (["models"], ["train", "--data", "x", "-o", "y"], ["export", "x", "-o", "y"]):
        result = subprocess.run(
            [str(clean_python), "-m", "edgefel.cli.main", *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert result.returncode == 2, (command, result.stderr)
        assert "pip install 'edgefel[" in result.stderr
        assert "Traceback" not in result.stderr
