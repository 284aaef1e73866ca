"""Runs tasks on a Ray cluster that is running: https://docs.ray.io. Imports Ray when it is used; starts no cluster.

A task whose worker or machine is lost is submitted again. Ray would do so by itself (`max_retries`); here it is done
and counted by us, so that reports can say it, and a task that kills every worker ends the run with its name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from edgefel import __version__
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.tasks.runner import ONE_CORE, Item, Need, Result, Stopped, Work, keep_nothing
from edgefel.text import counted, one_line

# times that a task is submitted before the run ends
MOST_TRIES = 4
# tasks in flight for each place where one can run: the next is there when one ends
_QUEUED = 2
# seconds: between looks at the size of the cluster, and of a wait, after which signals are handled
_LOOK, _POLL = 5.0, 0.5
# variables by which options of a command reach the processes that work: `edgefel.data.images.max_pixels`
_PASSED = ("EDGEFEL_MAX_PIXELS",)
# seconds in which the head of a cluster must answer
_PATIENCE = 10.0


class RayCluster:
    """The machines of a Ray cluster, as a `Runner`. Each needs this version of edgefel, and paths that are the same."""

    def __init__(self, address: str, workers: int | None = None) -> None:
        """address: "auto" or as of `ray.init`. workers: tasks at once; by default all that the machines have room for.

        Raises EdgefelError for less than one worker and a cluster that cannot be reached.
        """
        if workers is not None and workers < 1:
            raise EdgefelError(f"{workers} workers: give at least 1")
        self._ray = _import_ray()
        self._workers = workers
        self.lost = 0
        # Ray prints what happens to workers, at length and on the stream of results; it is in Ray's logs, too
        self._printing = contextlib.ExitStack()
        self._printing.enter_context(contextlib.redirect_stdout(_Nowhere()))
        # a process that is connected already stays so
        self._connected = not self._ray.is_initialized()
        try:
            if self._connected:
                _connect(self._ray, address)
        except BaseException:
            self._printing.close()
            raise

    def run(
        self,
        make: Callable[[], Work[Item, Result]],
        items: Iterable[Item],
        keep: Callable[[Item, Result], None] = keep_nothing,
        need: Need = ONE_CORE,
    ) -> Generator[Result, None, None]:
        """See `Runner.run`. Results come as they are ready."""
        ray = self._ray
        task = ray.remote(_work).options(
            num_cpus=need.cores, num_gpus=need.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        # kept on this machine, and fetched by the others once
        job = ray.put((make, {name: os.environ[name] for name in _PASSED if name in os.environ}))
        waiting: deque[tuple[Item, int]] = deque()
        running: dict[Any, tuple[Item, int]] = {}
        room, left = _Room(ray, need, self._workers), iter(items)
        try:
            while True:
                while len(running) < room.tasks():
                    if not waiting:
                        waiting.extend((item, 1) for item in _next(left))
                    if not waiting:
                        break
                    item, tries = waiting.popleft()
                    # in a list, so that Ray does not fetch what it names before the task begins
                    running[task.remote([job], __version__, item)] = item, tries
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=_POLL)
                for reference in ready:
                    item, tries = running.pop(reference)
                    for result in self._results(reference, item, tries, waiting):
                        keep(item, result)
                        yield result
        finally:
            self._stop(running, keep, need.patience)

    def close(self) -> None:
        """Leaves the cluster, which goes on."""
        if self._connected:
            self._ray.shutdown()
        self._printing.close()

    def _results(self, reference: Any, item: Item, tries: int, waiting: deque[tuple[Item, int]]) -> list[Any]:
        """The result of a task that has ended; none if it is lost, and then it waits to be submitted again."""
        try:
            answer = self._ray.get(reference)
        except _lost(self._ray) as error:
            return self._again(item, tries, waiting, _first(error))
        except self._ray.exceptions.RayTaskError as error:
            cause = error.as_instanceof_cause()
            if isinstance(cause, self._ray.exceptions.RaySystemError):
                raise EdgefelError(
                    f"a machine of the cluster cannot run the task ({_last(cause)}); install edgefel, in the same "
                    "version and with the same extras, on all of them"
                ) from None
            raise cause from None
        if isinstance(answer, _Refused):
            raise EdgefelError(answer.message)
        if isinstance(answer, _Ended):
            return self._again(item, tries, waiting, "it was told to stop from outside")
        return [answer]

    def _again(self, item: Item, tries: int, waiting: deque[tuple[Item, int]], why: str) -> list[Any]:
        if tries >= MOST_TRIES:
            raise EdgefelError(
                f"{_named(item)}: its worker was lost {counted(tries, 'time')} ({why}); leave it out, or give the "
                "tasks more memory by fewer --workers"
            )
        self.lost += 1
        waiting.appendleft((item, tries + 1))
        return []

    def _stop(
        self, running: dict[Any, tuple[Any, int]], keep: Callable[[Any, Any], None], seconds: float
    ) -> None:
        """Tells the tasks under way to stop, and keeps the results of those that end with one."""
        ray = self._ray
        for reference in running:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(reference)
        end = time.monotonic() + seconds
        while running and (left := end - time.monotonic()) > 0:
            ready, _ = ray.wait(list(running), timeout=min(left, _POLL))
            for reference in ready:
                item, _ = running.pop(reference)
                with contextlib.suppress(ray.exceptions.RayError):
                    answer = ray.get(reference)
                    if not isinstance(answer, _Refused | _Ended):
                        keep(item, answer)
        for reference in running:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=True)


class _Nowhere(io.TextIOBase):
    """Takes text and drops it."""

    def write(self, text: str) -> int:
        return len(text)


class _Refused:
    """An EdgefelError of a task: some have constructors with which they cannot be unpickled."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Ended:
    """What a task gives that stopped without having been told to by us: its process was, or was killed."""


def _work(job: list[Any], version: str, item: Any) -> Any:
    """A task, in a worker process of any machine. job: a list of what names `make`."""
    if version != __version__:
        host = os.uname().nodename
        return _Refused(
            f"{host}: has edgefel {__version__}, not {version}; install the same version on all machines"
        )
    try:
        return _made(job[0])(item, lambda: False)
    except Stopped:
        return _Ended()
    except EdgefelError as error:
        return _Refused(str(error))


@functools.lru_cache(maxsize=1)
def _made(job: Any) -> Work[Any, Any]:
    """What works in this process, made once for all tasks of a job."""
    import ray

    make, variables = ray.get(job)
    for name in _PASSED:  # an earlier job of the same connection may have left some
        os.environ.pop(name, None)
    os.environ.update(variables)
    return make()


class _Room:
    """How many tasks to have in flight; machines may come and go."""

    def __init__(self, ray: Any, need: Need, workers: int | None) -> None:
        self._ray, self._need, self._workers = ray, need, workers
        self._known, self._looked = 0, 0.0

    def tasks(self) -> int:
        """Raises EdgefelError if no machine has what a task needs."""
        if self._known == 0 or time.monotonic() - self._looked > _LOOK:
            self._known, self._looked = self._places() * _QUEUED, time.monotonic()
        return self._known if self._workers is None else min(self._workers, self._known)

    def _places(self) -> int:
        places, need = 0, self._need
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            has = node["Resources"]
            per = [(has.get("CPU", 0), need.cores), (has.get("GPU", 0), need.gpus)]
            places += int(min(have / take for have, take in per if take))
        if not places:
            takes = counted(need.cores, "core") + (f" and {counted(need.gpus, 'GPU')}" if need.gpus else "")
            raise EdgefelError(
                f"the cluster has no machine with {takes}, which a task needs; add one, or see 'ray status'"
            )
        return places


def _next(left: Iterator[Item]) -> Iterator[Item]:
    """The next item, if there is one."""
    for item in left:
        yield item
        return


def _import_ray() -> Any:
    # read when Ray is imported; unless someone has decided otherwise, nothing is sent to its makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingDependencyError("ray", "cluster", "--cluster") from None


def _connect(ray: Any, address: str) -> None:
    try:
        _check_listening(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        raise EdgefelError(
            f"--cluster {address}: no Ray cluster can be reached {where} ({_first(error)}); start one with: "
            "ray start --head"
        ) from None


def _check_listening(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT: Ray would try for minutes. Other addresses are left to Ray."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


def _lost(ray: Any) -> tuple[type[Exception], ...]:
    """What Ray raises where a worker, its machine or its result is gone."""
    found = ray.exceptions
    return found.WorkerCrashedError, found.NodeDiedError, found.OutOfMemoryError, found.ObjectLostError


def _first(error: Exception) -> str:
    """The first sentence of Ray's message, which has many lines."""
    return one_line(str(error).strip().split("\n")[0])[:200]


def _last(error: Exception) -> str:
    """The last line, which says what the error is; the traceback stands before it."""
    return one_line(str(error).strip().split("\n")[-1])[:200]


def _named(item: object) -> str:
    return str(getattr(item, "place", "")) or "a task"
