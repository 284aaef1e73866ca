"""Runs in parallel, each in a process of its own, on the available cores or GPUs of this machine.

A cluster is for several machines (`trials`): started for one, Ray takes seconds and a gigabyte of memory before the
first run begins, and this takes neither (docs/cluster.md).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgefel import signals
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.read import open_csv
from edgefel.files.write import lock, write_json

if TYPE_CHECKING:  # a worker answers signals before it imports PyTorch
    from edgefel.bench.experiments.ablation.plan import StudyRun

# in a run's folder: files, and the folder of the training
PLAN, LOG, RUN = "plan.json", "log.txt", "run"
INTERRUPTED = 130
_POLL = 0.5
# how long a run may take to save its checkpoint, in seconds
_PATIENCE = 300.0


@dataclass(frozen=True)
class Slot:
    """A GPU, or some cores, for one run at a time. threads: of PyTorch. gpu: its number, or what names it."""

    threads: int
    gpu: int | str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a run's process."""
        if self.gpu is not None:
            return {"CUDA_VISIBLE_DEVICES": str(self.gpu)}
        return {"OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}


def slots(jobs: int | None, gpus: int, cores: int) -> list[Slot]:
    """One for each GPU where there are any, else `jobs` that share the cores (by default one for each core).

    Two runs with one thread each are faster than one after the other with two. Raises EdgefelError for jobs below 1.
    """
    if jobs is not None and jobs < 1:
        raise EdgefelError(f"{jobs} jobs: give at least 1")
    count = jobs or gpus or cores
    return [Slot(max(1, cores // count), number % gpus if gpus else None) for number in range(count)]


def run_all(
    runs: Sequence[StudyRun], places: Sequence[Slot], watch: Callable[[StudyRun, int | None], None]
) -> list[tuple[StudyRun, str]]:
    """Trains what has no result yet; returns, after all other runs are done, those that failed, with a message.

    watch: takes the step that an active run has reached, None when it has ended. The output of a run goes to log.txt
    in its folder, and its last line is the message. On KeyboardInterrupt, waits for every run to save a checkpoint.
    """
    waiting = [run for run in runs if not run.result.is_file()]
    active: dict[int, tuple[StudyRun, subprocess.Popen[bytes]]] = {}
    failures = []
    try:
        while waiting or active:
            for number, slot in enumerate(places):
                if number not in active and waiting:
                    run = waiting.pop(0)
                    active[number] = run, start(run, slot)
                    watch(run, 0)
            time.sleep(_POLL)
            for number, (run, process) in list(active.items()):
                if process.poll() is None:
                    watch(run, last_step(run.folder / RUN / "metrics.csv"))
                    continue
                del active[number]
                code = end(process)
                watch(run, None)
                if code == INTERRUPTED:
                    raise KeyboardInterrupt
                if code:
                    failures.append((run, failure(run, code)))
    finally:
        for _, process in active.values():
            process.send_signal(signal.SIGTERM)
        for _, process in active.values():
            end(process)
    return failures


def failure(run: StudyRun, code: int) -> str:
    """Why a run failed: the last line that it has printed."""
    log = (run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
    return (log.splitlines()[-1] if log else f"ended with {code}").removeprefix("error: ")


def start(run: StudyRun, slot: Slot) -> subprocess.Popen[bytes]:
    """The process that trains a run: see `main`."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / PLAN, {"config": run.config.to_dict(), "threads": slot.threads})
    # a session of its own: Ctrl-C of the terminal is for the parent, which asks the runs one by one
    with (run.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "edgefel.bench.experiments.ablation.pool", os.fspath(run.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | slot.environment,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> int:
    """Waits; the exit code. A run that takes too long is killed, and so is one when Ctrl-C is pressed again."""
    try:
        process.wait(_PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # it goes on from an earlier checkpoint
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
    return process.returncode


def last_step(log: Path) -> int:
    """The last step in a run's metrics.csv, 0 where there is none."""
    try:
        with open_csv(log) as table:
            at = table.columns.index("step")
            steps = [row[at] for row in table if len(row) > at]
    except (EdgefelError, ValueError):
        return 0
    return int(steps[-1][:20]) if steps and steps[-1].isdecimal() else 0


def main(folder: Path) -> int:
    """`python -m edgefel.bench.experiments.ablation.pool FOLDER`: trains and judges one run in this process.

    On SIGTERM, and when its parent's end closes standard input, a pipe, it saves a checkpoint and ends; the same
    command continues from there. Exit code: 0 with a result.json, 2 for an error in one line on stderr, 130 if stopped.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with (folder / ".lock").open("a") as held:
            # whoever worked here before may still be saving
            lock(held.fileno(), wait=True)
            with signals.answered():
                return _work(folder)
    except EdgefelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _work(folder: Path) -> int:
    import torch

    from edgefel.bench import environment
    from edgefel.bench.experiments.ablation.judge import judge
    from edgefel.training import loop
    from edgefel.training.config import TrainConfig

    planned = read_json(folder / PLAN)
    torch.set_num_threads(planned["threads"])
    config = TrainConfig.from_dict(planned["config"])
    run = folder / RUN
    start = time.monotonic()
    if (run / "config.yaml").is_file():
        ended = loop.resume(run, {"data": config.data}, quiet=True)
    else:
        ended = loop.train(config, run, quiet=True)
    if ended.interrupted:
        return INTERRUPTED
    result = judge(run, config) | {
        "steps": ended.step,
        "epochs": ended.epoch,
        "stopped_early": ended.stopped_early,
        "skipped": len(ended.skipped),
        "seconds": round(time.monotonic() - start, 1),
        "threads": planned["threads"],
        "environment": environment.describe(),
    }
    write_json(folder / "result.json", result)
    return 0


def _end_with_parent() -> None:
    # not sys.stdin: a thread that waits inside of it holds a lock that the interpreter wants at its end
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
