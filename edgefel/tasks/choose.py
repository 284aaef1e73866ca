"""Where tasks run: here, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads


@contextmanager
def open_runner(cluster: str | None = None, workers: int | None = None) -> Iterator[Runner]:
    """Threads of this process, or a Ray cluster, which must be running.

    cluster: None, "auto" for the cluster of this machine, or an address as of `ray.init`. workers: tasks at once; by
    default one per core of this machine, or as many as the cluster's machines have room for.
    Raises EdgefelError for less than one worker and a cluster that cannot be reached, MissingDependencyError without
    Ray.
    """
    runner: Runner
    if cluster is None:
        runner = Threads(workers)
    else:
        # Ray is imported there
        from edgefel.tasks.on_ray import RayCluster

        runner = RayCluster(cluster, workers)
    try:
        yield runner
    finally:
        runner.close()
