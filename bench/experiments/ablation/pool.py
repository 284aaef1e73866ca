"""Runs in parallel, each in a process of its own, on the available cores or GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgefel.bench.experiments.ablation.plan import StudyRun
from edgefel.bench.experiments.ablation.worker import INTERRUPTED, PLAN, RUN
from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv
from edgefel.files.write import write_json

LOG = "log.txt"
_POLL = 0.2
# how long a run may take to save its checkpoint, in seconds
_PATIENCE = 300.0


@dataclass(frozen=True)
class Slot:
    """A GPU or some cores, for one run at a time. environment: variables of its process. threads: of PyTorch."""

    environment: Mapping[str, str]
    threads: int


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result. message: the last line of its log."""

    run: StudyRun
    message: str


class Watcher(Protocol):
    """Progress of the runs: started, at an optimizer step, ended (with a failure, or None)."""

    def started(self, run: StudyRun) -> None: ...

    def step(self, run: StudyRun, step: int) -> None: ...

    def ended(self, run: StudyRun, failure: Failure | None) -> None: ...


def slots(jobs: int | None, gpus: int, cores: int) -> list[Slot]:
    """One for each GPU where there are any, else `jobs` that share the cores (by default one for each core).

    Two runs with one thread each are faster than one after the other with two. Raises EdgefelError for jobs below 1.
    """
    if jobs is not None and jobs < 1:
        raise EdgefelError(f"{jobs} jobs: give at least 1")
    count = jobs or gpus or cores
    threads = max(1, cores // count)
    if gpus:
        return [Slot({"CUDA_VISIBLE_DEVICES": str(number % gpus)}, threads) for number in range(count)]
    return [Slot({"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}, threads)] * count


def together(places: Sequence[Slot]) -> Slot:
    """One slot with the threads of all, for a run that the others depend on."""
    threads = sum(slot.threads for slot in places)
    changed = {"OMP_NUM_THREADS": str(threads)} if "OMP_NUM_THREADS" in places[0].environment else {}
    return Slot({**places[0].environment, **changed}, threads)


def run_all(runs: Sequence[StudyRun], places: Sequence[Slot], watcher: Watcher) -> list[Failure]:
    """Trains what has no result yet; returns the failures after all other runs are done.

    The output of a run goes to log.txt in its folder. On KeyboardInterrupt, waits for every run to save a checkpoint.
    """
    waiting = [run for run in runs if not run.result.is_file()]
    active: dict[int, _Process] = {}
    failures: list[Failure] = []
    try:
        while waiting or active:
            for number in range(len(places)):
                if number not in active and waiting:
                    active[number] = _Process(waiting.pop(0), places[number])
                    watcher.started(active[number].run)
            time.sleep(_POLL)
            for number, process in list(active.items()):
                if process.alive():
                    watcher.step(process.run, process.steps())
                    continue
                del active[number]
                failure = process.failure()
                failures += [failure] if failure else []
                watcher.ended(process.run, failure)
                if process.interrupted():
                    raise KeyboardInterrupt
    finally:
        for process in active.values():
            process.stop()
        for process in active.values():
            process.wait()
    return failures


class _Process:
    def __init__(self, run: StudyRun, slot: Slot) -> None:
        self.run = run
        run.folder.mkdir(parents=True, exist_ok=True)
        write_json(run.folder / PLAN, {"config": run.config.to_dict(), "threads": slot.threads})
        # a session of its own: Ctrl-C of the terminal is for the parent, which asks the runs one by one
        with (run.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgefel.bench.experiments.ablation.worker", os.fspath(run.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(slot.environment),
                start_new_session=True,
            )
        self._steps = 0
        self._looked = 0.0

    def alive(self) -> bool:
        return self._process.poll() is None

    def interrupted(self) -> bool:
        return self._process.returncode == INTERRUPTED

    def steps(self) -> int:
        """Of the last line of its log; looked up once a second."""
        if time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            self._steps = last_step(self.run.folder / RUN / "metrics.csv") or self._steps
        return self._steps

    def failure(self) -> Failure | None:
        self.wait()
        if self._process.returncode in (0, INTERRUPTED):
            return None
        text = (self.run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1] if text else f"ended with {self._process.returncode}"
        return Failure(self.run, last.removeprefix("error: "))

    def stop(self) -> None:
        if self.alive():
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        try:
            self._process.wait(_PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # asked twice: the run goes on from an earlier checkpoint
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def last_step(log: Path) -> int:
    """The last step in a run's metrics.csv, 0 where there is none."""
    try:
        with open_csv(log) as table:
            at = table.columns.index("step")
            steps = [row[at] for row in table if len(row) > at]
    except (EdgefelError, ValueError):
        return 0
    return int(steps[-1][:20]) if steps and steps[-1].isdecimal() else 0
