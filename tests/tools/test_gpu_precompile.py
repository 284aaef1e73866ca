"""Every launch of a tuner is run once, and nothing is timed or kept."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import gpu_precompile
from gpu_precompile import every_launch_once, jobs
from triton.runtime.errors import OutOfResources

from edgefel.kernels.tuning import Launch, Tuner

SPACE = [Launch(16, 16, 4, 1), Launch(32, 32, 4, 1), Launch(64, 64, 4, 1)]


def test_all_launches_run_but_none_is_timed(monkeypatch):
    def never(run):
        raise AssertionError("timed")

    ran = []

    def run(launch: Launch) -> None:
        ran.append(launch)
        if launch is SPACE[1]:
            raise OutOfResources(1, 1, "registers")

    tuner = Tuner("name", "source", never)
    with every_launch_once():
        assert tuner._fastest(SPACE, run) == SPACE[0]
        tuner._write({})
    assert ran == SPACE
    with pytest.raises(AssertionError, match="timed"):
        tuner._fastest(SPACE, run)


def test_a_kernel_that_fails_is_not_hidden():
    def run(launch: Launch) -> None:
        raise ValueError("wrong")

    with every_launch_once(), pytest.raises(ValueError, match="wrong"):
        Tuner("name", "source")._fastest(SPACE, run)


def test_every_level_and_mode_has_a_job(capsys):
    assert gpu_precompile.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(jobs()) == 6
