"""The session of a lent GPU: order, limits, late and failing steps; the dry run of the script as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gpu_session
import pytest
from gpu_carry import pack
from gpu_session import (
    Clock,
    PretendedClock,
    Step,
    carried_steps,
    compare_counts,
    run_session,
    run_step,
    run_tiny,
    steps,
    wrong_options,
)

TOOLS = Path(gpu_session.__file__).parent


def lines(out: Path) -> dict[str, dict]:
    return {row["step"]: row for row in map(json.loads, (out / "steps.jsonl").read_text().splitlines())}


def pretended(
    limits: dict[str, float], takes: dict[str, float], out: Path, seconds: float = 100
) -> dict[str, dict]:
    clock = PretendedClock(takes)
    run_session(
        [Step(name, limit, ()) for name, limit in limits.items()], seconds, out, clock, run_tiny(clock)
    )
    return lines(out)


def test_a_late_step_ends_at_its_limit_and_the_next_begins_there(tmp_path):
    found = pretended({"a": 20, "b": 30, "c": 20}, {"a": 5, "b": 1000, "c": 6}, tmp_path)
    assert [found[name]["state"] for name in "abc"] == ["done", "late: killed", "done"]
    assert [found[name]["began"] for name in "abc"] == [0, 5, 35]
    assert found["b"]["code"] == 124


def test_no_step_gets_more_than_what_is_left(tmp_path):
    found = pretended({"a": 60, "b": 60, "c": 60}, {"a": 60, "b": 60, "c": 1}, tmp_path)
    assert found["b"]["limit"] == 100 - 60 - gpu_session.SPARE_SECONDS
    assert (found["b"]["state"], found["c"]["state"]) == ("late: killed", "no time left")


def test_a_step_that_fails_harms_no_other(tmp_path):
    failing = Step("failing", 50, ("-c", "import sys; print('why'); sys.exit(3)"))
    absent = Step("absent", 50, (), program=("no-such-program",))
    fine = Step(
        "fine", 50, ("-c", "import os; print(os.environ['SETTING'])"), environment={"SETTING": "kept"}
    )
    run_session([failing, absent, fine], 100, tmp_path, Clock(), run_step)
    found = lines(tmp_path)
    assert (found["failing"]["state"], found["absent"]["code"]) == ("failed: exit code 3", 127)
    assert found["fine"]["state"] == "done"
    assert (tmp_path / "failing.log").read_text() == "why\n"
    assert (tmp_path / "fine.log").read_text() == "kept\n"


def test_a_late_step_is_killed_with_what_it_started_and_its_rows_stay(tmp_path):
    child = f"import pathlib, time; time.sleep(3); pathlib.Path({str(tmp_path / 'alive')!r}).touch()"
    code = (
        "import subprocess, sys, time\nprint('row', flush=True)\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(600)"
    )
    assert run_step(Step("late", 600, ("-c", code)), 2, tmp_path) == (124, "late: killed")
    assert (tmp_path / "late.log").read_text() == "row\n"
    time.sleep(3.5)
    assert not (tmp_path / "alive").exists()


def test_the_session_fits_into_one_call_and_begins_with_what_is_worth_most():
    names = [step.name for step in steps("fer")]
    assert names[:5] == ["install", "versions", "precompile", "tests", "forward"]
    assert names[-1] == "fer-plus"
    assert "fer-plus" not in [step.name for step in steps(None)]
    before = sum(step.limit for step in steps(None)[:5])
    assert before + gpu_session.SPARE_SECONDS < 545, "the forward kernels are timed whatever is late"


def test_what_was_carried_is_joined_before_it_is_used_and_after_what_is_worth_more():
    extra = carried_steps(Path("carried"), ["fer-plus.zip", "rtx-libs.whl", "rtx.whl"])
    names = [step.name for step in steps("fer", extra)]
    assert names[names.index("carried") :][:4] == ["carried", "rtx-install", "rtx", "compiled"]
    assert names.index("executed") < names.index("carried")
    assert names[-1] == "fer-plus"
    install = next(step for step in extra if step.name == "rtx-install")
    assert install.arguments[-2:] == ("carried/whole/rtx-libs.whl", "carried/whole/rtx.whl")
    assert "--no-index" in install.arguments, "nothing is downloaded"
    assert [step.name for step in carried_steps(Path("carried"), ["fer-plus.zip"])] == ["carried"]


def test_options_that_edgefel_would_refuse_are_found():
    assert wrong_options(["bench", "kernels", "--level", "1", "--impl", "edgefel"]) == ""
    assert "No such option" in wrong_options(["bench", "kernels", "--levels", "1"])
    assert "not one of" in wrong_options(["bench", "kernels", "--mode", "back"])


NCU = """==PROF== Connected to process 7
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","forward_kernel","gpu__time_duration.sum","ns","301,024"
"0","forward_kernel","smsp__inst_executed.sum","inst","250,000,000"
"""


def test_the_profilers_count_stands_beside_the_predicted_one(tmp_path):
    assert compare_counts(tmp_path) is None
    (tmp_path / "executed.csv").write_text(NCU)
    (tmp_path / "kernels").mkdir()
    rows = [
        {"subject": {"mode": mode}, "metrics": {"warp_instructions": count}}
        for mode, count in (("forward", 255_600_000), ("backward", 1))
    ]
    (tmp_path / "kernels" / "kernel-model.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare_counts(tmp_path)
    assert found == {"executed": 250e6, "predicted": 255.6e6, "predicted over executed": 1.0224}
    assert json.loads((tmp_path / "counts.json").read_text()) == found
    (tmp_path / "executed.csv").write_text("==ERROR== no permission\n")
    assert compare_counts(tmp_path) is None


def dry_run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(TOOLS / "gpu_session.sh"), "--dry-run", *arguments]
    environment = {**os.environ, "OUT": str(out), "PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.slow
def test_the_dry_run_goes_through_every_step(tmp_path):
    with zipfile.ZipFile(tmp_path / "fer.zip", "w") as archive:
        archive.writestr("label.csv", "")
    pack([tmp_path / "fer.zip"], tmp_path / "carried", 50)
    options = ("--carried", str(tmp_path / "carried"), "--pretend", "backward=500,fer-plus=9")
    result = dry_run(tmp_path / "out", *options)
    assert result.returncode == 1, result.stderr
    found = lines(tmp_path / "out")
    assert list(found) == [step.name for step in steps("data", carried_steps(Path(), ["fer.zip"]))]
    assert (tmp_path / "carried" / "whole" / "fer" / "label.csv").is_file()
    states = {row["state"] for name, row in found.items() if name != "backward"}
    assert states == {"done"}
    assert found["backward"]["state"] == "late: killed"
    last = found["fer-plus"]
    assert last["began"] + last["seconds"] <= 545
    assert "2 passed" in (tmp_path / "out" / "tests.log").read_text()
    assert json.loads((tmp_path / "out" / "versions.log").read_text())["torch"]


def test_an_unknown_step_is_a_usage_error(tmp_path):
    result = dry_run(tmp_path, "--only", "forward,magic")
    assert result.returncode == 2
    assert "no step magic; known: install, versions" in result.stderr
