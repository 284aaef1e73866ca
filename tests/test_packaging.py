"""The package list, the wheel's contents, and what a bare installation may import."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgefel

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_wheel import DATA, PACKAGE_ROOTS, expected_files  # noqa: E402

if sys.version_info >= (3, 11):
    import tomllib

    SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_of_the_tree_is_listed():
    in_tree = set()
    for folder, package in PACKAGE_ROOTS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            name = Path(package, init.parent.relative_to(ROOT / folder))
            in_tree.add(".".join(name.parts))
    assert in_tree == set(SETUPTOOLS["packages"])


def test_every_file_that_is_no_python_is_in_the_wheel():
    in_tree = {
        file.relative_to(ROOT / "edgefel").as_posix()
        for file in (ROOT / "edgefel").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    listed = {
        file.relative_to(ROOT / "edgefel").as_posix()
        for pattern in SETUPTOOLS["package-data"]["edgefel"]
        for file in (ROOT / "edgefel").glob(pattern)
    }
    assert in_tree <= listed
    assert {f"edgefel/{name}" for name in in_tree} <= expected_files()
    assert set(SETUPTOOLS["package-data"]["edgefel"]) == set(DATA)


def test_the_wheel_has_the_name_that_the_docs_give_it():
    names = re.findall(r"edgefel-[\d.]+[\w.-]*\.whl", (ROOT / "docs" / "install.md").read_text())
    assert set(names) == {f"edgefel-{edgefel.__version__}-py3-none-any.whl"}


# the whole of what runs on a device, and the packages whose modules must be importable before they are used
LIGHT = """
import importlib, pkgutil, sys
import edgefel.cli.main, edgefel.data.labels, edgefel.kernels, edgefel.export
for command in ("predict", "run", "serve", "doctor", "pack", "engine", "export"):
    importlib.import_module(f"edgefel.cli.{command}")
names = []
for package in ("edgefel.runtime", "edgefel.deploy", "edgefel.web"):
    path = importlib.import_module(package).__path__
    names += [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
for name in names:
    importlib.import_module(name)
heavy = {"torch", "triton", "sklearn", "onnx", "kornia", "jinja2", "matplotlib", "lightning_fabric", "tensorrt"}
heavy |= {"openvino", "starlette", "uvicorn", "websockets", "paho"}
print(len(names), *sorted(heavy & set(sys.modules)))
"""


def test_every_module_without_optional_imports_stays_light():
    """The command line, the runtime and what packs it import nothing beyond the base install."""
    result = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    count, *heavy = result.stdout.split()
    assert heavy == []
    in_tree = [file for file, name in package_files() if name in ("runtime", "deploy", "web")]
    assert int(count) == len(in_tree) - 3  # without the three packages themselves


def package_files() -> list[tuple[Path, str]]:
    """Every source file and the package of edgefel it belongs to."""
    files = [(file, file.relative_to(ROOT / "edgefel").parts[0]) for file in (ROOT / "edgefel").rglob("*.py")]
    for name in ("kernels", "export", "calib", "bench"):
        files += [(file, name) for file in (ROOT / name).rglob("*.py")]
    return files


@pytest.mark.parametrize("name", ["kernels", "export", "calib", "bench"])
def test_top_level_folders_are_no_global_packages(name):
    assert importlib.util.find_spec(f"edgefel.{name}") is not None
    code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.strip() == "None"
