"""What edgefel derives from TensorRT's classes works when the library calls it."""

from __future__ import annotations

import pytest
from real_tensorrt.environments import HERE

SAID = "CUDA initialization failure with error: 35"


@pytest.fixture(scope="module")
def found(bindings):
    return bindings.ask(HERE / "live_objects.py")


def test_the_package_loads(found):
    assert found["loaded"]


def test_errors_and_warnings_are_kept_in_one_line_each(found):
    errors = ["ERROR of the builder", "INTERNAL_ERROR of the builder"]
    assert found["log"] == {"errors": errors, "warnings": ["WARNING of the builder"]}


def test_the_outermost_phase_moves_the_progress_and_ctrl_c_ends_the_build(found):
    assert found["monitor"] == {"steps": 2, "answers": [True, True, False], "outer": None}


def test_what_does_not_start_says_what_the_library_logged(found, bindings):
    assert found["builder"].startswith(f"tensorrt {bindings.version} cannot start here: {SAID}; ")
    assert f"tensorrt {bindings.version} cannot start here ({SAID}); " in found["runtime"]
