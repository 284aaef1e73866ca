"""Runs of a study as tasks: what a killed process, an error and an interruption come to. Ray is not needed here."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgefel.bench.experiments.ablation import trials
from edgefel.bench.experiments.ablation.plan import StudyRun
from edgefel.bench.experiments.ablation.pool import INTERRUPTED, LOG
from edgefel.bench.experiments.ablation.trials import Trial, run_on_cluster, train_trial
from edgefel.tasks.runner import Stopped
from edgefel.tasks.threads import Threads

# stands in for the training of a run, whose folder is its argument
SUCCEED = "open(sys.argv[1] + '/result.json', 'w').write('{}')"
FAIL = "open(sys.argv[1] + '/log.txt', 'a').write('no more\\nerror: the data is broken\\n'); sys.exit(2)"
KILLED = "import os; os.kill(os.getpid(), 9)"
SAVE = (
    "import signal, time\nsignal.signal(15, lambda *_: (open(sys.argv[1] + '/saved', 'w'), sys.exit(130)))\n"
    "open(sys.argv[1] + '/ready', 'w')\ntime.sleep(60)"
)


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """A run whose process is some lines of code."""
    code = {}

    def start(run, slot):
        command = [sys.executable, "-c", f"import sys\n{code[run.folder]}", str(run.folder)]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    monkeypatch.setattr(trials, "start", start)
    monkeypatch.setattr(trials, "_POLL", 0.01)

    def make(name, lines):
        folder = tmp_path / name
        folder.mkdir()
        (folder / LOG).touch()
        code[folder] = lines
        return StudyRun(name, 0, SimpleNamespace(), folder)

    return make


def test_a_run_succeeds_or_says_why_not(make_run):
    assert train_trial(Trial(make_run("good", SUCCEED)), lambda: False) == ""
    assert train_trial(Trial(make_run("bad", FAIL)), lambda: False) == "the data is broken"


@pytest.mark.parametrize("code", [KILLED, f"sys.exit({INTERRUPTED})"])
def test_a_killed_process_is_to_be_begun_again(make_run, code):
    with pytest.raises(Stopped):
        train_trial(Trial(make_run("killed", code)), lambda: False)


def test_a_run_that_is_told_to_stop_saves_first(make_run):
    run = make_run("long", SAVE)
    with pytest.raises(Stopped):
        train_trial(Trial(run), (run.folder / "ready").exists)
    assert (run.folder / "saved").exists()


def test_runs_with_a_result_are_left_and_failures_name_their_run(make_run):
    runs = [make_run("a", SUCCEED), make_run("b", FAIL), make_run("c", "sys.exit('never begun')")]
    runs[2].result.write_text("{}")
    watched = []
    failures = run_on_cluster(runs, Threads(2), 0, lambda run, step: watched.append((run.variant, step)))
    assert failures == [(runs[1], "the data is broken")]
    assert sorted(watched, key=str) == sorted([(name, step) for name in "ab" for step in (0, None)], key=str)
    assert runs[0].result.is_file()
