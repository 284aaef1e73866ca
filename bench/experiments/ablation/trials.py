"""Runs of a study as tasks of a cluster: each is a process on some machine, as of `pool`, and its folder is shared.

A run whose worker or machine is lost, or whose process is killed, is begun again on any machine and goes on from its
last checkpoint in its folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from edgefel.bench.experiments.ablation.plan import StudyRun
from edgefel.bench.experiments.ablation.pool import INTERRUPTED, Slot, end, failure, start
from edgefel.tasks.runner import Need, Runner, Stopped

_POLL = 0.5
# seconds in which a run that is told to stop must have saved its checkpoint
_PATIENCE = 300.0


@dataclass(frozen=True)
class Trial:
    """A run as an item of a task."""

    run: StudyRun

    @property
    def place(self) -> str:
        """For messages."""
        return str(self.run.folder)


def run_on_cluster(
    runs: Sequence[StudyRun], runner: Runner, gpus: float, watch: Callable[[StudyRun, int | None], None]
) -> list[tuple[StudyRun, str]]:
    """As `pool.run_all`, on a cluster: one core, and `gpus` GPUs, for each run.

    The runs' folders must be the same place on all machines. watch: told that a run has ended; of its steps nothing.
    """
    failures = []
    by_folder = {run.folder.absolute(): run for run in runs if not run.result.is_file()}
    trials = [Trial(replace(run, folder=folder)) for folder, run in by_folder.items()]

    def keep(trial: Trial, message: str) -> None:
        run = by_folder[trial.run.folder]
        watch(run, 0)
        watch(run, None)
        if message:
            failures.append((run, message))

    need = Need(cores=1, gpus=gpus, patience=_PATIENCE)
    with closing(runner.run(_make, trials, keep, need)) as results:
        for _ in results:
            pass
    return failures


def _make() -> Callable[[Trial, Callable[[], bool]], str]:
    return train_trial


def train_trial(trial: Trial, stop: Callable[[], bool]) -> str:
    """Trains and judges one run in a process of its own; "" or why it failed.

    Raises Stopped if it was told to stop, or its process was killed; it has saved a checkpoint then, or has an earlier
    one.
    """
    # of the GPU that Ray has given to this task
    slot = Slot(1, os.environ.get("CUDA_VISIBLE_DEVICES") or None)
    process = start(trial.run, slot)
    try:
        while process.poll() is None and not stop():
            time.sleep(_POLL)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = end(process)
    if code == INTERRUPTED or code < 0:
        raise Stopped
    return failure(trial.run, code) if code else ""
