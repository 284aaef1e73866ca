"""Ceilings on the attention's instructions, by the Triton that is installed and by the oldest one that a machine
with a GPU here has.

What may be spent stands in ceilings.py; a score's one exponential takes eight issue slots.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clean_installs import PIP, skip_without_index

sys.path.insert(0, str(Path(__file__).parent))
from ceilings import BACKWARD, BOUNDS_US, CEILINGS

pytest.importorskip("triton")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
OLDER_TRITON = "3.6.0"


@pytest.fixture(scope="module")
def installed(compiled):
    return by_window(compiled("ceilings.py", 1, 2))


@pytest.fixture(scope="module")
def older(compiled, tmp_path_factory):
    """With an older Triton in front of this environment's packages; nothing else is installed again."""
    folder = tmp_path_factory.mktemp("triton")
    wanted = ("install", "--no-deps", "--no-compile", "--target", str(folder), f"triton=={OLDER_TRITON}")
    result = subprocess.run([*PIP, *wanted], capture_output=True, text=True, check=False, timeout=900)
    skip_without_index(result)
    assert result.returncode == 0, result.stderr
    return by_window(compiled("ceilings.py", 1, 2, PYTHONPATH=str(folder)))


def by_window(rows):
    """Those of the forward kernel, then of the backward ones."""
    return {
        window: [
            row
            for mode in ("forward", "backward")
            for row in rows
            if (row["window"], row["mode"]) == (window, mode)
        ]
        for window in CEILINGS
    }


def check(rows, window):
    forward, *backward = rows[window]
    assert len(backward) == 3
    assert all(row["spill_bytes"] == 0 for row in rows[window])
    assert forward["instructions_per_unit"] <= CEILINGS[window]
    assert sum(row["instructions_per_unit"] for row in backward) <= BACKWARD[window]


@pytest.mark.parametrize("window", list(CEILINGS))
def test_a_score_takes_few_instructions_and_nothing_spills(installed, window):
    check(installed, window)


@pytest.mark.parametrize("window", list(BOUNDS_US))
def test_the_launch_could_be_fast(installed, window):
    assert installed[window][0]["bound_us"] <= BOUNDS_US[window]


@pytest.mark.parametrize("window", list(CEILINGS))
def test_the_older_triton_makes_as_few(older, window):
    assert {row["triton"] for row in older[window]} == {OLDER_TRITON}
    check(older, window)
