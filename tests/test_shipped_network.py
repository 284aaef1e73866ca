"""An installation with a network of its own, from the source archive to a labelled photograph."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from clean_installs import PIP, ROOT, run, skip_without_index
from matplotlib import cbook

from edgefel.runtime.shipped import NAME

BUNDLE = ROOT / "tests" / "bundles" / "nano-synthetic"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder into which the wheel is installed that is built from the source archive of a tree with a network."""
    place = tmp_path_factory.mktemp("shipped")
    tree, site = place / "tree", place / "site"
    for name in ("edgefel", "kernels", "export", "calib", "bench"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", NAME))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    network = shutil.copytree(BUNDLE, tree / "edgefel" / "networks" / NAME)
    (network / "README.md").rename(network / "model-card.md")
    result = run(sys.executable, "-m", "build", "-o", place, tree, cwd=place)
    skip_without_index(result)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = place.glob("*.whl")
    result = run(
        *PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel, cwd=place
    )
    assert result.returncode == 0, result.stderr
    for path in (site, *site.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield site
    for path in (site, *site.rglob("*")):
        path.chmod(0o755)


def edgefel(site: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As the installation in `site` does it; it may write into `cwd` alone."""
    own = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "EDGEFEL_CACHE": str(cwd / "cache")}
    command = [sys.executable, "-m", "edgefel.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | own)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), cv2.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return path


def test_the_installed_network_is_whole(site):
    installed = contents(site / "edgefel" / "networks" / NAME)
    assert installed.pop("model-card.md") == (BUNDLE / "README.md").read_bytes()
    assert installed == {name: data for name, data in contents(BUNDLE).items() if name != "README.md"}


def test_predict_and_run_need_no_bundle_and_write_nothing_into_the_installation(site, photo, tmp_path):
    before = contents(site)
    result = edgefel(site, "predict", "photo.jpg", "--save", "labelled", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (face,) = json.loads(result.stdout)["faces"]
    assert (tmp_path / "labelled" / "photo.jpg").is_file()
    result = edgefel(site, "run", "--source", "photo.jpg", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (streamed,) = json.loads(result.stdout)["faces"]
    assert streamed["probabilities"] == pytest.approx(face["probabilities"], abs=1e-5)
    result = edgefel(site, "doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["bundle"]["found"].startswith(
        f"{NAME} comes with edgefel: arbex-nano, 7 classes, 1 file; accuracy "
    )
    assert checks["backend"]["status"] == "ok"
    assert contents(site) == before


def test_it_is_packed_for_a_device_and_the_device_can_predict(site, photo, tmp_path):
    result = edgefel(site, "pack", "-o", "edge", "--no-kernels", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    model = tmp_path / "edge" / "model"
    assert sorted(path.name for path in model.iterdir()) == [
        *("labels.txt", "manifest.json", "model-card.md", "model.fp32.onnx")
    ]
    (wheel,) = (tmp_path / "edge" / "wheels").iterdir()
    device = tmp_path / "device"
    result = run(*PIP, "install", "--no-deps", "--no-index", "--target", device, wheel, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = edgefel(device, "predict", model, "photo.jpg", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["faces"]) == 1
    result = edgefel(device, "predict", "photo.jpg", cwd=tmp_path)
    assert result.returncode == 2
    assert "give BUNDLE, a folder of 'edgefel export' (in a folder of 'edgefel pack': model)" in result.stderr
