"""What the check of the wheel's contents finds."""

from __future__ import annotations

from check_wheel import expected_files, problems


def test_the_wheel_check_finds_missing_and_foreign_files():
    whole = expected_files()
    assert problems(whole) == []
    assert problems(whole - {"edgefel/kernels/__init__.py"}) == [
        "missing from the wheel: edgefel/kernels/__init__.py"
    ]
    assert problems(whole | {"kernels/__init__.py"}) == ["unexpected top-level name: kernels"]
