"""Commands that are killed in the middle lose nothing; `kill_matrix.py` does more of it and keeps the results."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from kill_matrix import CASES, SIGNALS, Matrix

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
# how often each command is killed; the tool's own number is 10
KILLS = int(os.environ.get("EDGEFEL_KILLS", len(SIGNALS)))
QUICK = ("synth", "prepare", "pack")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_killed_commands_lose_nothing(name, tmp_path):
    if name not in QUICK and "EDGEFEL_KILLS" not in os.environ:
        pytest.skip("minutes; set EDGEFEL_KILLS, such as 3")
    matrix = Matrix(tmp_path)
    matrix.prepare([name])
    # fewer images than the tool writes are still enough to be killed among
    case = replace(CASES[name], command=CASES[name].command.replace("--count 400", "--count 100"))
    for row in matrix.kill(case, KILLS)["kills"]:
        assert not row["problems"], row
