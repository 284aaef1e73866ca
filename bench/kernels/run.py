"""The bench of the fused kernels: comparisons on this GPU or, without one, resources of the compiled kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch

from edgefel import __version__
from edgefel.bench.kernels import gpu, report, suite
from edgefel.bench.kernels.problems import DTYPES, HeadProblem, poolings, pyramid_levels
from edgefel.bench.kernels.suite import KernelRow
from edgefel.bench.stopwatch import CudaStopwatch
from edgefel.bench.timer import TimingPlan, measure
from edgefel.progress import SILENT, Progress


def measure_kernels(
    batches: Sequence[int], dtypes: Sequence[str], runs: int, progress: Progress = SILENT
) -> dict[str, Any]:
    """Rows of every comparison, the ceilings they refer to, and the device. Needs a GPU.

    dtypes: names of DTYPES. runs: timed runs of each implementation.
    """
    rows: list[KernelRow] = []
    ceilings = {name: gpu.measure_ceilings(DTYPES[name]) for name in dtypes}
    steps = list(_comparisons(batches, dtypes, runs, ceilings))
    progress.start("comparing", len(steps))
    for compare in steps:
        rows += compare()
        torch.cuda.empty_cache()
        progress.advance()
    return {
        "bench": "kernels",
        "measured": True,
        **gpu.describe_device(),
        "ceilings": {name: asdict(found) for name, found in ceilings.items()},
        "runs": runs,
        "summary": report.summary(rows),
        "rows": rows,
    }


def _comparisons(
    batches: Sequence[int], dtypes: Sequence[str], runs: int, ceilings: dict[str, Any]
) -> Iterator[Callable[[], list[KernelRow]]]:
    """A function for each comparison, which measures its rows."""
    device = torch.device("cuda")
    timer = partial(measure, plan=TimingPlan.exactly(runs), stopwatch=CudaStopwatch())
    for dtype, batch, backward in product(dtypes, batches, (False, True)):
        settings: dict[str, Any] = {"memory": gpu.extra_memory, "ceilings": ceilings[dtype]}
        problems: list[Any] = [*pyramid_levels(batch, DTYPES[dtype]), *poolings(batch, DTYPES[dtype])]
        for problem in problems:
            yield partial(suite.compare, problem, backward, device, timer, **settings)
    for batch in batches:
        head = HeadProblem(batch=batch)
        yield partial(suite.compare, head, False, device, timer, memory=gpu.extra_memory)


def compile_kernels(advance: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """The resources of the kernels of arbex and apvit on every target. Needs Triton, and no GPU.

    advance: called with the numbers of kernels that are done, and of all.
    """
    import triton

    from edgefel.kernels.ahead_of_time.compiler import compile_all
    from edgefel.kernels.ahead_of_time.resources import TARGETS
    from edgefel.models.inference_kernels import inference_kernels
    from edgefel.models.registry import model_config

    specs = [spec for name in ("arbex", "apvit") for spec in inference_kernels(model_config(name))]
    return {
        "bench": "kernels",
        "measured": False,
        "reason": "no CUDA device: nothing was timed",
        "command": "edgefel bench kernels",
        "versions": {"edgefel": __version__, "triton": triton.__version__},
        "compiled": compile_all(specs, list(TARGETS), workers=os.cpu_count(), advance=advance),
    }
