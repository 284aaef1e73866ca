"""The package list, the wheel's contents, and what a bare installation may import."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_wheel import PACKAGE_ROOTS, expected_files, problems  # noqa: E402

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


def test_the_wheel_check_finds_missing_and_foreign_files():
    whole = expected_files()
    assert problems(whole) == []
    assert problems(whole - {"edgefel/kernels/__init__.py"}) == [
        "missing from the wheel: edgefel/kernels/__init__.py"
    ]
    assert problems(whole | {"kernels/__init__.py"}) == ["unexpected top-level name: kernels"]


def test_every_module_without_optional_imports_stays_light():
    """The command line and the runtime import nothing beyond the base install."""
    code = (
        "import sys, edgefel.runtime, edgefel.cli.main, edgefel.cli.predict, edgefel.data.labels\n"
        "heavy = {'torch', 'triton', 'sklearn', 'onnx', 'kornia', 'matplotlib', 'lightning_fabric'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["kernels", "export", "calib", "bench"])
def test_top_level_folders_are_no_global_packages(name):
    assert importlib.util.find_spec(f"edgefel.{name}") is not None
    code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.strip() == "None"
