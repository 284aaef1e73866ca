"""Without --cluster tasks run on threads; tests/tasks/test_on_ray.py has the other case."""

from __future__ import annotations

import sys

import pytest

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.tasks.choose import open_runner
from edgefel.tasks.threads import Threads


def test_open_runner_gives_threads_without_a_cluster():
    with open_runner(None, 3) as runner:
        assert isinstance(runner, Threads)
        assert (runner.workers, runner.lost) == (3, 0)
    with pytest.raises(EdgefelError, match="0 workers: give at least 1"), open_runner(None, 0):
        pass


def test_a_cluster_without_ray_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"edgefel\[cluster\]"), open_runner("auto"):
        pass
