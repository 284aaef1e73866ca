"""One run in a process of its own: `python -m edgefel.bench.experiments.ablation.worker FOLDER` trains and judges it.

On SIGTERM, and when its parent's end closes standard input, a pipe, it saves a checkpoint and ends; the same command
continues from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from edgefel import signals
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import lock, write_json

PLAN = "plan.json"
RUN = "run"
INTERRUPTED = 130


def main(folder: Path) -> int:
    """Exit code: 0 with a result.json, 2 for an error in one line on stderr, 130 if stopped."""
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
