"""Packages are imported without the telemetry that they would load; with a stand-in for OpenVINO."""

from __future__ import annotations

import sys

import pytest

from edgefel.runtime.backends.quiet import import_quietly

OPENVINO = """
try:
    import openvino_telemetry
except ImportError:
    openvino_telemetry = None
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of packages that comes first, with none of them imported; for this test alone."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] in ("openvino", "openvino_telemetry")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "openvino_telemetry.py").write_text("")
    (tmp_path / "openvino.py").write_text(OPENVINO)
    yield
    sys.modules.pop("openvino", None)
    sys.modules.pop("openvino_telemetry", None)


def test_openvino_does_not_see_its_telemetry(packages):
    assert import_quietly("openvino").openvino_telemetry is None
    # it is hidden during that import alone
    assert "openvino_telemetry" not in sys.modules
    assert import_quietly("openvino_telemetry").__name__ == "openvino_telemetry"
    assert import_quietly("openvino") is sys.modules["openvino"]


def test_a_telemetry_that_a_program_uses_itself_stays(packages):
    theirs = import_quietly("openvino_telemetry")
    assert import_quietly("openvino").openvino_telemetry is theirs
    assert sys.modules["openvino_telemetry"] is theirs


def test_what_is_missing_or_breaks_is_raised(packages, tmp_path):
    (tmp_path / "openvino.py").write_text("raise OSError('libtbb.so is missing')")
    with pytest.raises(OSError, match="libtbb"):
        import_quietly("openvino")
    assert "openvino_telemetry" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        import_quietly("a_package_that_nobody_has")
