"""The base install, without extras, in clean environments: everything for a device works, and torch is not there.

Also install.sh of a deploy folder, for real, on a machine without a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest
from clean_installs import (
    HERE,
    ROOT,
    check_lines,
    edgefel,
    find_python,
    install,
    new_environment,
    run,
    skip_without_index,
    write_clip,
)
from matplotlib import cbook

from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.deploy.verify import verify

VERSIONS = sorted({"3.10", "3.12", HERE})
# a trained network, so that nothing has to be exported for these tests
BUNDLE = ROOT / "tests" / "bundles" / "nano-synthetic"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=VERSIONS)
def clean_python(request, tmp_path_factory) -> Path:
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} with venv and pip found here")
    clean = new_environment(python, tmp_path_factory.mktemp("clean") / "venv")
    # the pinned versions are those of development; another Python may have no wheels of them
    install(clean, "", *(["-c", ROOT / "constraints-dev.txt"] if request.param == HERE else []))
    return clean


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def test_what_is_not_installed(clean_python, tmp_path):
    code = (
        "import importlib.util\n"
        "names = ['torch', 'triton', 'sklearn', 'onnx', 'kornia', 'matplotlib', 'yaml', 'lightning_fabric']\n"
        "print([name for name in names if importlib.util.find_spec(name)])"
    )
    assert run(clean_python, "-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_predict(clean_python, tmp_path):
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((150, 120, 3), 128, np.uint8))
    result = edgefel(
        clean_python, "predict", BUNDLE, tmp_path / "crop.png", "--no-detect", "--json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    (face,) = json.loads(result.stdout)["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_python(clean_python, tmp_path):
    """A photograph without a bundle: the network is in the wheel."""
    shutil.copy(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), tmp_path / "photo.jpg")
    result = run(
        clean_python,
        "-c",
        "import edgefel; print(edgefel.load()('photo.jpg'))",
        cwd=tmp_path,
        HOME=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("photo.jpg: 1 face\n  neutral ")
    assert result.stderr == ""


def test_run(clean_python, clip, tmp_path):
    result = edgefel(clean_python, "run", BUNDLE, "--source", clip, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    check_lines(result.stdout)


def test_doctor(clean_python, tmp_path):
    result = edgefel(clean_python, "doctor", BUNDLE, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    checks = {check["name"]: check["status"] for check in json.loads(result.stdout)["checks"]}
    assert "fail" not in checks.values()
    assert checks["ONNX Runtime"] == "ok"


def test_bundle(clean_python, tmp_path):
    result = edgefel(clean_python, "pack", BUNDLE, "-o", tmp_path / "edge.tar", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "note: no compiled kernels: torch is not installed here; make them with" in result.stderr
    assert verify(tmp_path / "edge.tar").header["precisions"] == ["fp32"]
    models = tmp_path / "models"
    result = edgefel(clean_python, "pack", BUNDLE, "--triton-repository", models, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(models.rglob("config.pbtxt"))


def test_commands_that_need_more_say_what_to_install(clean_python, tmp_path):
    for command in (["ablate", "head"], ["train", "--data", "x", "-o", "y"], ["export", "x", "-o", "y"]):
        result = edgefel(clean_python, *command, cwd=tmp_path)
        assert result.returncode == 2, (command, result.stderr)
        assert "pip install 'edgefel[" in result.stderr
        assert "Traceback" not in result.stderr


needs_shell = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="install.sh is for Linux")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    write_deploy_folder(BUNDLE, place / "edge.tar.gz", DeployOptions(without_kernels=True))
    return place / "edge.tar.gz"


def unpack(archive: Path, place: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")
    return place / "edge"


@needs_shell
def test_install_sh_on_a_machine_without_gpu(packed, clip, tmp_path):
    """From the archive to labelled frames, into a folder whose name has a space; then once more, as a repair."""
    folder, prefix = unpack(packed, tmp_path), tmp_path / "my place"
    own = {"PYTHON": os.path.realpath(sys.executable), "PIP_NO_COMPILE": "1"}
    result = run(folder / "install.sh", "--prefix", prefix, cwd=tmp_path, **own)
    skip_without_index(result)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no engine and no pycuda: no NVIDIA GPU is found here" in result.stdout
    assert not (folder / "venv").exists()
    result = run(prefix / "run.sh", "--source", clip, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "precision fp32" in result.stderr
    check_lines(result.stdout)
    result = run(folder / "install.sh", "--prefix", prefix, "--offline", "--precision", "fp32", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "making a virtual environment" not in result.stdout
    assert "installing numpy" not in result.stdout
    assert (prefix / "local.env").read_text() == "GPU_PRECISION=fp32\nCPU_PRECISION=fp32\n"
    assert verify(prefix).extra > 100  # the environment; nothing that was packed has changed


@needs_shell
def test_install_sh_uses_the_opencv_of_the_system(packed, tmp_path):
    """As on a Jetson: cv2 and NumPy are the system's and pip knows no opencv-python-headless. With --service too,
    of which the commands that need root are replaced by ones that write down how they were called."""
    folder = unpack(packed, tmp_path)
    venv.create(folder / "venv", with_pip=False)  # pip is the system's too
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    system = tmp_path / "dist-packages"
    system.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if not path.name.startswith(("opencv_python_headless-", "edgefel", "__editable__", "_", "distutils")):
            (system / path.name).symlink_to(path)
    (site / "system.pth").write_text(f"{system}\n")
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name in ("systemctl", "install", "sudo", "chown"):
        (fakes / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{fakes}/calls\n')
    (fakes / "id").write_text('#!/bin/sh\n[ "$*" = "-u kiosk" ] && echo 1000 || echo 0\n')
    for path in fakes.iterdir():
        path.chmod(0o755)
    result = run(
        folder / "install.sh",
        "--offline",
        "--service",
        cwd=tmp_path,
        PATH=f"{fakes}{os.pathsep}{os.environ['PATH']}",
        SUDO_USER="kiosk",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "opencv" not in result.stdout.lower().split("checking this machine")[0]
    where = run(folder / "venv/bin/python", "-c", "import cv2; print(cv2.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(system))
    unit = (folder / "venv" / "edgefel.service").read_text()
    assert "\nUser=kiosk\n" in unit
    assert f"\nExecStart={folder}/run.sh $EDGEFEL_ARGUMENTS\n" in unit
    assert "/opt/edgefel" not in unit
    calls = (fakes / "calls").read_text()
    assert "systemctl enable edgefel.service" in calls
    assert "install -m 0644" in calls
    assert f"chown -R kiosk {folder}/model {folder}/cache" in calls
