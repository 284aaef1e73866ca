"""Ceilings on the forward kernel's instructions, by the Triton that is installed and by the oldest one that a machine
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
from ceilings import BOUNDS_US, CEILINGS

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
    return {row["window"]: row for row in rows}


@pytest.mark.parametrize("window", list(CEILINGS))
def test_nothing_spills(installed, window):
    assert installed[window]["spill_bytes"] == 0


@pytest.mark.parametrize("window", list(CEILINGS))
def test_a_score_takes_few_instructions(installed, window):
    assert installed[window]["instructions_per_unit"] <= CEILINGS[window]


@pytest.mark.parametrize("window", list(BOUNDS_US))
def test_the_launch_could_be_fast(installed, window):
    assert installed[window]["bound_us"] <= BOUNDS_US[window]


@pytest.mark.parametrize("window", list(CEILINGS))
def test_nothing_spills_with_the_older_triton(older, window):
    assert older[window]["triton"] == OLDER_TRITON
    assert older[window]["spill_bytes"] == 0


@pytest.mark.parametrize("window", list(CEILINGS))
def test_a_score_takes_few_instructions_with_the_older_triton(older, window):
    assert older[window]["instructions_per_unit"] <= CEILINGS[window]
