"""install.sh, run.sh and the systemd unit, as far as they go without a package index.

tests/test_base_install.py runs install.sh for real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.deploy.package import DeployOptions, write_deploy_folder

DEVICE = Path(__file__).parent.parent.parent / "edgefel" / "deploy" / "device"
SCRIPTS = ("install.sh", "run.sh")
R36 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
R38 = "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n"
R35 = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n"

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell here")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    bundle = write_bundle(place / "bundle", ("fp32", "fp16", "int8", "int8+fp16"))
    write_deploy_folder(bundle, place / "edge", DeployOptions(without_kernels=True))
    return place / "edge"


@pytest.fixture
def folder(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "a place"))


def install(folder: Path, *arguments: str, release: str | None = None, **environment: str):
    file = folder.parent / "nv_tegra_release"
    if release is not None:
        file.write_text(release)
    return subprocess.run(
        [str(folder / "install.sh"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"EDGEFEL_TEGRA_RELEASE": str(file)} | environment,
        cwd=folder.parent,
    )


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_shell_can_read_it(name, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", DEVICE / name], check=True)


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here; apt install shellcheck")
    result = subprocess.run(
        ["shellcheck", *(DEVICE / name for name in SCRIPTS)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (None, "no Jetson ("),
        (R36, "JetPack 6 (L4T 36.4.3)"),
        (R38, "JetPack 7 (L4T 38.2.0)"),
        (R38.replace("R38", "R39"), "JetPack 7 (L4T 39.2.0)"),
        (R38.replace("R38", "R45"), "L4T 45.2.0 is unknown to this script"),
        ("garbage\n", "cannot read the release; going on"),
    ],
)
def test_jetpack_is_recognised_and_check_changes_nothing(folder, release, said):
    before = sorted(folder.rglob("*"))
    result = install(folder, "--check", release=release)
    assert result.returncode == 0, result.stderr
    assert said in result.stdout + result.stderr
    assert f"would install into {folder}" in result.stdout
    assert sorted(folder.rglob("*")) == before


def test_jetpack_5_is_refused(folder):
    result = install(folder, "--check", release=R35)
    assert result.returncode == 2
    assert "L4T 35.4.1 is too old: edgefel needs JetPack 6" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fast",), "unknown option --fast"),
        (("--prefix",), "--prefix needs a value"),
        (("--prefix=",), "--prefix: give a folder"),
        (("--precision", "fp8"), "--precision fp8: choose fp32"),
    ],
)
def test_wrong_options_are_one_line(folder, arguments, message):
    result = install(folder, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_of_something_else_is_not_installed_into(folder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "model").write_text("precious")
    result = install(folder, "--prefix", str(tmp_path / "photos"))
    assert result.returncode == 2
    assert "is not empty and holds no earlier installation" in result.stderr
    assert (tmp_path / "photos" / "model").read_text() == "precious"
    (tmp_path / "photos" / "index.json").write_text('{"format": "gallery"}')
    result = install(folder, "--prefix", tmp_path / "photos", "--check")
    assert result.returncode == 2
    assert (tmp_path / "photos" / "model").read_text() == "precious"


def test_an_old_python_is_named(folder, tmp_path):
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10"\nexit 1\n')
    old.chmod(0o755)
    result = install(folder, "--check", PYTHON=str(old))
    assert result.returncode == 2
    assert "Python 3.8.10 is too old, edgefel needs 3.10 or later" in result.stderr
    result = install(folder, "--check", PYTHON="python-that-is-not-here")
    assert "no python-that-is-not-here; on Debian and Ubuntu" in result.stderr


def test_an_incomplete_folder_is_named(folder):
    (folder / "index.json").unlink()
    result = install(folder, "--check")
    assert result.returncode == 2
    assert "is not a whole folder of 'edgefel bundle'" in result.stderr


def pretend_installed(folder: Path, *, engines: bool) -> None:
    """A stand-in for the environment: `edgefel` prints its arguments, `python` says whether engines can run."""
    place = folder / "venv" / "bin"
    place.mkdir(parents=True)
    (place / "edgefel").write_text('#!/bin/sh\nfor word in "$@"; do printf "<%s>" "$word"; done; echo\n')
    answer = "exit 0" if engines else "echo no NVIDIA GPU is found here; exit 1"
    (place / "python").write_text(f"#!/bin/sh\n{answer}\n")
    for file in place.iterdir():
        file.chmod(0o755)


def run(folder: Path, *arguments: str):
    result = subprocess.run(
        [str(folder / "run.sh"), *arguments], capture_output=True, text=True, check=False, cwd="/"
    )
    assert result.returncode == 0, result.stderr
    return result


def test_run_without_a_gpu(folder):
    pretend_installed(folder, engines=False)
    result = run(folder)
    assert result.stdout == f"<run><{folder}/model><--precision><fp32><--source><0>\n"
    assert "no TensorRT engine: no NVIDIA GPU is found here" in result.stderr
    assert "<engine>" not in result.stderr


def test_run_builds_the_engine_first_and_says_so_on_stderr(folder):
    pretend_installed(folder, engines=True)
    result = run(folder, "--json", "--source", "my clip.mp4")
    assert result.stdout == f"<run><{folder}/model><--json><--source><my clip.mp4><--precision><fp16>\n"
    assert f"<engine><{folder}/model><--precision><fp16>" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "ran", "built"),
    [
        (("--precision", "int8+fp16"), "<--precision><int8+fp16><--source><0>", "<int8>"),
        (("--precision=fp32",), "<--precision=fp32><--source><0>", "<fp32>"),
        (("--backend", "onnxruntime"), "<--backend><onnxruntime><--precision><fp32><--source><0>", None),
        (
            ("--backend=onnxruntime-cuda",),
            "<--backend=onnxruntime-cuda><--precision><fp16><--source><0>",
            None,
        ),
        (("--source=csi",), "<--source=csi><--precision><fp16>", "<fp16>"),
    ],
)
def test_what_the_user_gives_is_kept(folder, arguments, ran, built):
    pretend_installed(folder, engines=True)
    result = run(folder, *arguments)
    assert result.stdout == f"<run><{folder}/model>{ran}\n"
    if built is None:
        assert "<engine>" not in result.stderr
    else:
        assert f"<engine><{folder}/model><--precision>{built}" in result.stderr


def test_prepare_runs_nothing(folder):
    pretend_installed(folder, engines=True)
    result = run(folder, "--prepare")
    assert result.stdout == ""
    assert "<engine>" in result.stderr


def test_the_precision_of_the_installation_is_used(folder):
    pretend_installed(folder, engines=True)
    (folder / "local.env").write_text("GPU_PRECISION=int8+fp16\nCPU_PRECISION=int8+fp16\n")
    assert "<--precision><int8+fp16>" in run(folder).stdout


def test_run_before_install_says_what_to_do(folder):
    result = subprocess.run([str(folder / "run.sh")], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"run {folder}/install.sh first" in result.stderr


def test_systemd_accepts_the_unit(folder, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    home = tmp_path / "edgefel"
    shutil.copytree(folder, home)
    # what install.sh --service puts in
    text = (home / "edgefel.service").read_text().replace("/opt/edgefel", str(home))
    assert "\nUser=edgefel\n" in text
    unit = tmp_path / "edgefel.service"
    unit.write_text(text.replace("\nUser=edgefel\n", "\nUser=root\n"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    if "Failed to initialize manager" in result.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {result.stderr.strip()}")
    assert (result.returncode, result.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("[Install]", "Hardening=yes\n[Install]"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "Hardening" in result.stderr
