"""The tuner: what it times, what it remembers, and what makes it forget."""

from __future__ import annotations

import json

import pytest
import torch

from edgefel.errors import EdgefelError
from edgefel.kernels import tuning
from edgefel.kernels.tuning import Launch, Tuner

SLOW, FAST, REFUSED = Launch(32, 32, 4, 1), Launch(64, 32, 4, 2), Launch(128, 64, 4, 3)


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A GPU by name, and a cache of its own."""
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "tuning_allowed", lambda: True)
    monkeypatch.setattr(tuning, "_machine", lambda device: (f"GPU {device}", "8.7"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return tmp_path


class Clock:
    """Times launches by a table and counts them."""

    def __init__(self) -> None:
        self.runs: list[Launch] = []

    def run(self, launch: Launch) -> None:
        self.runs.append(launch)
        if launch == REFUSED:
            from triton.runtime.errors import OutOfResources

            raise OutOfResources(200_000, 100_000, "shared memory")

    def measure(self, run) -> float:
        run()
        return {SLOW: 2.0, FAST: 1.0}[self.runs[-1]]


def pick(tuner, clock, key=("fp16", 28), device=0):
    return tuner.pick(key, [SLOW, REFUSED, FAST], SLOW, clock.run, device)


def test_the_fastest_that_runs_wins_and_is_timed_once():
    clock = Clock()
    tuner = Tuner("op", "source", clock.measure)
    assert pick(tuner, clock) == FAST
    assert pick(tuner, clock) == FAST
    assert clock.runs == [SLOW, REFUSED, FAST]


def test_results_outlive_the_process_until_the_source_changes():
    clock = Clock()
    pick(Tuner("op", "source", clock.measure), clock)
    again = Clock()
    assert pick(Tuner("op", "source", again.measure), again) == FAST
    assert again.runs == []
    assert pick(Tuner("op", "new source", again.measure), again) == FAST
    assert len(again.runs) == 3


def test_another_problem_or_gpu_is_timed_anew():
    clock = Clock()
    tuner = Tuner("op", "source", clock.measure)
    pick(tuner, clock)
    pick(tuner, clock, key=("fp16", 14))
    assert len(clock.runs) == 6
    pick(tuner, clock, device=1)
    assert len(clock.runs) == 9


def test_two_processes_keep_each_others_results():
    clock = Clock()
    one, other = Tuner("op", "source", clock.measure), Tuner("op", "source", clock.measure)
    pick(one, clock, key=("a",))
    pick(other, clock, key=("b",))
    pick(one, clock, key=("c",))
    assert len(json.loads(one.file.read_text())) == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"key": {"block": 1}}'])
def test_a_broken_file_is_named_ignored_and_replaced(content):
    clock = Clock()
    tuner = Tuner("op", "source", clock.measure)
    tuner.file.write_text(content)
    with pytest.warns(UserWarning, match="not a tuning file"):
        assert pick(tuner, clock) == FAST
    assert len(json.loads(tuner.file.read_text())) == 1


def test_without_a_cache_folder_the_pick_is_not_kept(machine, monkeypatch):
    (machine / "file").touch()
    monkeypatch.setenv("EDGEFEL_CACHE", str(machine / "file"))
    with pytest.warns(UserWarning, match="op: tuning results are not kept .*cannot make the cache folder"):
        assert pick(Tuner("op", "source", (clock := Clock()).measure), clock) == FAST


def test_nothing_is_timed_while_a_graph_is_captured(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert pick(Tuner("op", "source", clock.measure), clock) == SLOW
    assert clock.runs == []


def test_a_deterministic_run_takes_the_default_even_of_what_was_timed():
    clock = Clock()
    tuner = Tuner("op", "source", clock.measure)
    assert pick(tuner, clock) == FAST
    torch.use_deterministic_algorithms(True)
    try:
        assert pick(tuner, clock) == SLOW
    finally:
        torch.use_deterministic_algorithms(False)
    assert pick(tuner, clock) == FAST


def test_where_nothing_runs_the_reason_is_said():
    clock = Clock()
    with pytest.raises(EdgefelError, match="op: no launch .* shared memory"):
        Tuner("op", "source", clock.measure).pick(("x",), [REFUSED], SLOW, clock.run)


def test_a_bug_is_not_taken_for_a_refusal():
    def broken(launch: Launch) -> None:
        raise RuntimeError("illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        Tuner("op", "source", lambda run: run()).pick(("x",), [SLOW], SLOW, broken)


def test_without_a_gpu_or_by_wish_the_default_is_taken(monkeypatch):
    monkeypatch.undo()
    clock = Clock()
    monkeypatch.setenv("EDGEFEL_AUTOTUNE", "0")
    assert pick(Tuner("op", "source", clock.measure), clock) == SLOW
    assert clock.runs == []
