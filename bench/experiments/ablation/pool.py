"""Runs in parallel, each in a process of its own, on the available cores or GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
    """A GPU or some cores, for one run at a time. environment: variables of its process. threads: of PyTorch."""

    environment: Mapping[str, str]
    threads: int


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result. message: the last line of its log."""

    run: StudyRun
    message: str


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


def run_all(
    runs: Sequence[StudyRun], places: Sequence[Slot], watch: Callable[[StudyRun, int | None], None]
) -> list[Failure]:
    """Trains what has no result yet; returns the failures after all other runs are done.

    watch: takes the step that an active run has reached, None when it has ended. The output of a run goes to log.txt
    in its folder. On KeyboardInterrupt, waits for every run to save a checkpoint.
    """
    waiting = [run for run in runs if not run.result.is_file()]
    active: dict[int, _Process] = {}
    failures: list[Failure] = []
    try:
        while waiting or active:
            for number in range(len(places)):
                if number not in active and waiting:
                    active[number] = _Process(waiting.pop(0), places[number])
                    watch(active[number].run, 0)
            time.sleep(_POLL)
            for number, process in list(active.items()):
                if process.alive():
                    watch(process.run, last_step(process.run.folder / RUN / "metrics.csv"))
                    continue
                del active[number]
                code = process.wait()
                watch(process.run, None)
                if code == INTERRUPTED:
                    raise KeyboardInterrupt
                if code:
                    failures.append(Failure(process.run, process.last_words()))
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
                [sys.executable, "-m", "edgefel.bench.experiments.ablation.pool", os.fspath(run.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(slot.environment),
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        text = (self.run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1] if text else f"ended with {self._process.returncode}"
        return last.removeprefix("error: ")

    def stop(self) -> None:
        if self.alive():
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code. A run that takes too long is killed, and so is one when Ctrl-C is pressed again."""
        try:
            self._process.wait(_PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # it goes on from an earlier checkpoint
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.returncode


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
