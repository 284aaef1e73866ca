"""Compiles every launch that tuning will time, on all cores at once, into Triton's cache; times nothing.

\b
    python tools/gpu_precompile.py            on a machine with a GPU
    python tools/gpu_precompile.py --list     names the jobs

A tuner compiles its launches one after the other, a second each, while the GPU waits. Here a process for each level and
mode of the attention runs each launch once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

LEVELS, MODES = (1, 2, 3), ("forward", "forward+backward")
# problems of the same power of two share their launches
BATCH = 8


def jobs() -> list[tuple[int, str]]:
    """Level and mode of each."""
    return list(product(LEVELS, MODES))


@contextmanager
def every_launch_once() -> Iterator[None]:
    """Tuners run each launch of their space once and keep the first; nothing is written to their cache."""
    from edgefel.kernels.tuning import Tuner, _is_refusal

    def run_all(self: Tuner, space: Sequence[Any], run: Callable[[Any], None]) -> Any:
        for launch in space:
            try:
                run(launch)
            except Exception as error:
                if not _is_refusal(error):
                    raise
        return space[0]

    kept = Tuner._fastest, Tuner._write
    Tuner._fastest, Tuner._write = run_all, lambda self, known: None  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Tuner._fastest, Tuner._write = kept  # type: ignore[method-assign]


def compile_job(level: int, mode: str) -> None:
    """All launches of one level and mode in FP16, on the current GPU."""
    import torch

    from edgefel.bench.kernels.competitors import OURS, implementation, run
    from edgefel.bench.kernels.problems import pyramid_levels

    problem = pyramid_levels(BATCH, torch.float16)[level - 1]
    inputs = problem.inputs(torch.device("cuda"))
    backward = mode != MODES[0]
    call = implementation(OURS, problem, inputs, backward)
    with every_launch_once():
        run(call, tuple(inputs[name] for name in problem.leaves), inputs["grad"] if backward else None)()
    torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if a job failed; the others are done all the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", nargs=2, metavar=("LEVEL", "MODE"))
    options = parser.parse_args(arguments)
    if options.job:
        compile_job(int(options.job[0]), options.job[1])
        return 0
    if options.list:
        print(*(f"level {level}, {mode}" for level, mode in jobs()), sep="\n")
        return 0
    command = [sys.executable, __file__, "--job"]
    running = [subprocess.Popen([*command, str(level), mode]) for level, mode in jobs()]
    codes = [process.wait() for process in running]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
