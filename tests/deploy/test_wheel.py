"""The wheel of the running edgefel: what pip would build, deterministic, and installable."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import edgefel
from edgefel.deploy import wheel as wheel_module
from edgefel.deploy.wheel import MAPPED_PACKAGES, build_wheel, package_files
from edgefel.errors import EdgefelError

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_wheel import PACKAGE_ROOTS, expected_files  # noqa: E402

INFO = f"edgefel-{edgefel.__version__}.dist-info"


@pytest.fixture(scope="module")
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(build_wheel().data))


def test_it_holds_every_module_and_what_devices_need(archive):
    names = {name for name in archive.namelist() if not name.startswith(INFO)}
    device = {f"edgefel/deploy/device/{file.name}" for file in (ROOT / "edgefel/deploy/device").iterdir()}
    assert "edgefel/deploy/device/install.sh" in device
    # an archive has the model that was packed
    assert names == {name for name in expected_files() if not name.startswith("edgefel/networks/")} | device
    assert set(MAPPED_PACKAGES) == set(PACKAGE_ROOTS) - {"edgefel"}


def test_its_metadata_is_that_of_the_installation(archive):
    text = archive.read(f"{INFO}/METADATA").decode()
    assert f"\nVersion: {edgefel.__version__}\n" in text
    assert "\nRequires-Dist: onnxruntime>=1.17\n" in text
    assert "edgefel = edgefel.cli.main:main" in archive.read(f"{INFO}/entry_points.txt").decode()
    assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "\nTag: py3-none-any\n" in archive.read(f"{INFO}/WHEEL").decode()


def test_the_record_lists_every_file_with_its_hash(archive):
    rows = list(csv.reader(io.StringIO(archive.read(f"{INFO}/RECORD").decode())))
    assert [row[0] for row in rows if not row[1]] == [f"{INFO}/RECORD"]
    assert sorted(row[0] for row in rows) == sorted(archive.namelist())
    for name, digest, size in rows[:-1]:
        data = archive.read(name)
        expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, int(size)) == (f"sha256={expected}", len(data)), name


def test_the_same_bytes_twice_and_the_time_that_is_asked_for(archive, monkeypatch):
    assert build_wheel().data == build_wheel().data
    assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    later = zipfile.ZipFile(io.BytesIO(build_wheel().data))
    assert {info.date_time for info in later.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_pip_installs_it_and_the_installed_one_makes_the_same_wheel(tmp_path):
    wheel = build_wheel()
    (tmp_path / wheel.name).write_bytes(wheel.data)
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", target, tmp_path / wheel.name], check=True, cwd=tmp_path)

    def python(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": str(target)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert python("-m", "edgefel.cli.main", "--version").strip() == f"edgefel, version {edgefel.__version__}"
    again = python(
        "-c",
        "import hashlib, edgefel.export.tensorrt.bundle as module\n"
        "from edgefel.deploy.wheel import build_wheel\n"
        "print(module.__file__)\n"
        "print(hashlib.sha256(build_wheel().data).hexdigest())",
    )
    module, digest = again.split()
    assert module.startswith(str(target))
    assert digest == hashlib.sha256(wheel.data).hexdigest()
    assert (target / "bin" / "edgefel").is_file() or os.name == "nt"


def test_no_cache_or_editor_file_gets_in(tmp_path, monkeypatch):
    package = tmp_path / "edgefel"
    for name in ("__pycache__/x.py", ".x.py.swp", "x.pyc", "notes.txt", "deploy/device/.hidden", "x.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    monkeypatch.setattr(wheel_module, "_package_folders", lambda: [("edgefel", package)])
    assert [name for name, _ in package_files()] == ["edgefel/x.py"]


def test_an_edgefel_that_is_not_installed_cannot_be_packed(monkeypatch):
    monkeypatch.setattr(metadata, "distributions", lambda **_: [])
    with pytest.raises(EdgefelError, match="edgefel is not installed here.*install edgefel with pip"):
        build_wheel()


def test_another_version_than_the_one_that_runs_is_refused(monkeypatch):
    monkeypatch.setattr(edgefel, "__version__", "9.9.9")
    with pytest.raises(EdgefelError, match=r"edgefel 9\.9\.9 runs, and 0\.1\.0 is installed"):
        build_wheel()
