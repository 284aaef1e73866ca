"""What a device is asked before and after the packages are there."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from edgefel.deploy import on_device
from edgefel.deploy.on_device import Requirement, base_requirements, missing_requirements, opencv_problem
from edgefel.runtime import engines
from edgefel.runtime.engines import Gpu, Here

ORIN = Gpu("Orin", (8, 7))


@pytest.mark.parametrize(
    ("versions", "version", "admitted"),
    [
        (">=1.23", "1.21.5", False),
        (">=1.23", "1.23", True),
        (">=1.23", "1.23.0rc1", True),
        (">=1.23", "2.0.0", True),
        ("<5,>=4.10", "4.8.0", False),
        ("<5,>=4.10", "4.10.0.84", True),
        ("<5,>=4.10", "5.0", False),
        (">=13", "13.0.0", True),
        ("", "0.0.1", True),
    ],
)
def test_versions(versions, version, admitted):
    assert Requirement("x", versions).admits(version) is admitted


def test_the_base_install_is_read_from_the_metadata_without_extras():
    found = {str(item) for item in base_requirements("edgefel")}
    assert found == {
        "numpy>=1.23",
        "opencv-python-headless<5,>=4.10",
        "onnxruntime>=1.17",
        "click>=8.1",
        "rich>=13",
        "prometheus-client>=0.17",
    }
    assert [
        item.module for item in base_requirements("edgefel") if item.name.startswith(("open", "prom"))
    ] == [
        "cv2",
        "prometheus_client",
    ]


def test_nothing_is_missing_where_everything_works():
    assert missing_requirements() == ([], [])


def pretend_installed(folder: Path, name: str, version: str) -> None:
    """Metadata of a package, found before the one that is really installed."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_numpy_of_ubuntu_22_04_is_replaced_by_one_that_its_opencv_was_made_for(tmp_path, monkeypatch):
    pretend_installed(tmp_path, "numpy", "1.21.5")
    monkeypatch.syspath_prepend(tmp_path)
    missing, remarks = missing_requirements()
    assert missing == ["numpy>=1.23,<2"]
    assert remarks == ["numpy 1.21.5 is too old for edgefel"]


def test_a_module_from_another_package_counts(tmp_path, monkeypatch):
    """onnxruntime-gpu gives the module onnxruntime; pip knows no package of that name then."""
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    real = metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.16.0" if name == "onnxruntime-gpu" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert missing_requirements()[0] == ["onnxruntime>=1.17"]
    monkeypatch.setattr(metadata, "version", lambda name: "1.20.0" if "gpu" in name else version(name))
    assert missing_requirements() == ([], [])


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "raise ImportError('numpy.core.multiarray failed to import')",
            "numpy.core.multiarray failed to import",
        ),
        ("__version__ = '5.0.0'", "AssertionError: 5.0.0"),
        ("__version__ = '4.5.1'", "AssertionError: 4.5.1"),
        ("import os; os._exit(139)", "it ends Python with code 139"),
        ("__version__ = '4.8.0'", "Error"),
    ],
)
def test_an_opencv_that_cannot_be_used_is_replaced_and_the_reason_given(
    tmp_path, monkeypatch, source, problem
):
    (tmp_path / "cv2.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    missing, (remark,) = missing_requirements()
    assert missing == ["opencv-python-headless<5,>=4.10"]
    assert remark.startswith("the system's OpenCV is not used: ")
    assert problem in remark


@pytest.mark.parametrize(
    ("here", "pycuda", "build", "run"),
    [
        (Here({}, None), True, "no NVIDIA GPU is found here", "no NVIDIA GPU is found here"),
        (Here({"tensorrt_rtx": "1.7"}, None), True, "no NVIDIA GPU", "no NVIDIA GPU"),
        (Here({}, ORIN), True, "and TensorRT is not", "and TensorRT is not"),
        (Here({"tensorrt": "10.3.0"}, ORIN), False, None, "pycuda is not"),
        (Here({"tensorrt": "10.3.0"}, ORIN), True, None, None),
    ],
)
def test_whether_engines_can_be_built_and_run(monkeypatch, capsys, here, pycuda, build, run):
    monkeypatch.setattr(engines, "look_here", lambda: here)
    find = on_device.importlib.util.find_spec
    monkeypatch.setattr(
        on_device.importlib.util,
        "find_spec",
        lambda name: (object() if pycuda else None) if name == "pycuda" else find(name),
    )
    for question, reason in (("gpu", build), ("engines", run)):
        assert on_device.main([question]) == (0 if reason is None else 1)
        out = capsys.readouterr().out
        assert out == "" if reason is None else reason in out


def test_a_tensorrt_that_does_not_start_builds_no_engine(monkeypatch, capsys):
    """run.sh would end with the builder's error, where ONNX Runtime can do the work."""
    monkeypatch.setattr(engines, "look_here", lambda: Here({"tensorrt": "10.3.0"}, ORIN))
    monkeypatch.setattr(engines, "load_package", lambda name: ModuleType(name))
    monkeypatch.setattr(engines, "runtime_problem", lambda module: f"{module.__name__} cannot start here")
    assert on_device.main(["gpu"]) == 1
    assert capsys.readouterr().out == "tensorrt cannot start here\n"
    broken = Here({}, ORIN, broken={"tensorrt": "OSError: libnvinfer.so.10"})
    monkeypatch.setattr(engines, "look_here", lambda: broken)
    assert on_device.main(["gpu"]) == 1
    assert "tensorrt does not load (OSError: libnvinfer.so.10)" in capsys.readouterr().out


def test_it_answers_without_any_package(tmp_path):
    """-S: no site-packages, as in a virtual environment that nothing was installed in yet."""
    root = Path(__file__).parent.parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from edgefel.deploy import on_device\n"
        "on_device.base_requirements = lambda name: [on_device.Requirement('rich', '>=13')]\n"
        "sys.exit(on_device.main(['requirements']))"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout == "rich>=13\n"


def test_unknown_questions(capsys):
    assert on_device.main(["weather"]) == 2
    assert "usage" in capsys.readouterr().err


def test_opencv_is_judged_only_when_numpy_fits(tmp_path, monkeypatch):
    """What is wrong with it until then may be NumPy's fault."""
    pretend_installed(tmp_path, "numpy", "1.21.5")
    (tmp_path / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert opencv_problem() is not None
    assert missing_requirements()[0] == ["numpy>=1.23,<2"]
