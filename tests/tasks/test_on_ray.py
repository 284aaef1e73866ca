"""Tasks on a real Ray cluster of two machines, both this one; they listen on the loopback interface alone."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest
from rayclusters import stay_on_loopback

from edgefel.errors import EdgefelError
from edgefel.tasks.choose import open_runner
from edgefel.tasks.runner import Need

stay_on_loopback()
pytest.importorskip("ray", reason="no Ray here; pip install 'edgefel[cluster]'")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def elsewhere():
    """A function of this file, which workers cannot import."""
    return lambda item, stop: item


def test_results_are_those_of_threads(cluster):
    def double():
        return lambda item, stop: 2 * item

    kept = []
    with open_runner(cluster.address) as runner:
        found = list(runner.run(double, range(200), lambda item, result: kept.append((item, result))))
    assert sorted(found) == [2 * item for item in range(200)]
    assert sorted(kept) == [(item, 2 * item) for item in range(200)]
    assert runner.lost == 0


def test_errors_come_as_one_line(cluster):
    def make():
        def work(item, stop):
            raise EdgefelError(f"{item}: cannot be read")

        return work

    with open_runner(cluster.address) as runner:
        with pytest.raises(EdgefelError, match="^7: cannot be read$"):
            list(runner.run(make, [7]))
        with pytest.raises(EdgefelError, match="no machine with 1 cores and 3 GPUs"):
            list(runner.run(make, [7], need=Need(gpus=3)))
        with pytest.raises(EdgefelError, match="No module named .*; install edgefel, in the same version"):
            list(runner.run(elsewhere, [7]))
    with (
        pytest.raises(EdgefelError, match="no Ray cluster can be reached at 127.0.0.1:1 "),
        open_runner("127.0.0.1:1"),
    ):
        pass


def test_a_killed_worker_costs_nothing(cluster, tmp_path):
    """Two tasks kill their process at the first try; results are complete, and the two are counted."""

    def make():
        def work(item, stop):
            mark = tmp_path / str(item)
            if item in (3, 11) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        return work

    with open_runner(cluster.address) as runner:
        assert sorted(runner.run(make, range(20))) == list(range(20))
        # a task under way in the same process can be lost with it only where processes run several: Ray's do not
        assert runner.lost == 2


def test_a_task_that_kills_every_worker_ends_the_run(cluster, capsys):
    def make():
        return lambda item, stop: os.kill(os.getpid(), signal.SIGKILL)

    with (
        open_runner(cluster.address) as runner,
        pytest.raises(EdgefelError, match="video.mp4: its worker was lost 4 times"),
    ):
        list(runner.run(make, [SimpleNamespace(place="video.mp4")]))
    # Ray's own words do not come between the results of a command
    assert capsys.readouterr().out == ""


def test_closing_ends_tasks_under_way(cluster, tmp_path):
    def make():
        def work(item, stop):
            if item:
                (tmp_path / str(item)).touch()
                time.sleep(60)
            return item

        return work

    start = time.monotonic()
    with open_runner(cluster.address) as runner:
        results = runner.run(make, range(100), need=Need(patience=5))
        assert next(results) == 0
        results.close()
    assert time.monotonic() - start < 20
    assert len(list(tmp_path.iterdir())) < 10
