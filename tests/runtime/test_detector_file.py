"""YuNet's file: only the published one is taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime import detector_file
from edgefel.runtime.detector_file import detector_path, install_detector, installed_detector

DATA = np.random.default_rng(0).bytes(200_001)


@pytest.fixture(autouse=True)
def _small_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(detector_file, "SHA256", hashlib.sha256(DATA).hexdigest())
    monkeypatch.setattr(detector_file, "BYTES", len(DATA))


def test_a_file_from_elsewhere_is_checked_and_copied(tmp_path):
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(DATA)
    bad.write_bytes(DATA[:-1])
    with pytest.raises(EdgefelError, match="200000 bytes, and its SHA-256 differs"):
        install_detector(bad)
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(EdgefelError, match=str(path)):
            install_detector(path)
    assert installed_detector() is None
    assert install_detector(good) == installed_detector()
    assert [path.read_bytes() for path in detector_path().parent.iterdir()] == [DATA]


def test_a_damaged_file_is_no_reason_to_take_another_detector(tmp_path):
    detector_path().parent.mkdir(parents=True)
    detector_path().write_bytes(DATA[:-1])
    with pytest.raises(EdgefelError, match="edgefel detector get"):
        installed_detector()


def test_without_a_home_folder_nothing_is_installed(monkeypatch):
    monkeypatch.delenv("XDG_DATA_HOME")

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert installed_detector() is None
    with pytest.raises(EdgefelError, match="XDG_DATA_HOME"):
        detector_path()
