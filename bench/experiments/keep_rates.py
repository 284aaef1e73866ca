"""What it costs to keep how many tokens: the networks of `edgefel ablate keep-rates`, timed in turn.

    python -m edgefel.bench.experiments.keep_rates ablations > docs/results/keep-rates.json

Takes the first seed's last checkpoint of each variant, exports it and runs it in ONNX Runtime: batch 1, one thread, all
in turn, so that what slows the machine slows all of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from edgefel.bench.command import one_thread, run_bench
from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, parse_changes, plan
from edgefel.bench.experiments.ablation.pool import RUN
from edgefel.bench.experiments.ablation.verdict import Outcome
from edgefel.bench.networks import onnxruntime_session
from edgefel.bench.statistics import ratio
from edgefel.bench.timer import TimingPlan, measure
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import export_onnx
from edgefel.models.profile import profile
from edgefel.report.figures import new_figure
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.training.run_folder import RunFolder

EXPERIMENT = EXPERIMENTS["keep-rates"]


def costs(study: Study, runs: int) -> dict[str, Any]:
    """By variant: multiply-accumulates, the median in ms, and the ratio of keeping all to it."""
    calls, macs = {}, {}
    for run in plan(study):
        if not run.result.is_file():
            raise EdgefelError(
                f"{run.folder}: no result; run edgefel ablate keep-rates with the same options first"
            )
        model = RunFolder(run.folder / RUN).load_last()[0].model.eval()
        side = model.config.input_size
        image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
        session = onnxruntime_session(export_onnx(model))
        calls[run.variant] = partial(session.run, None, {INPUT_NAME: image})
        macs[run.variant] = profile(model.config).macs
    timings = measure(calls, TimingPlan.exactly(runs))
    whole = timings[EXPERIMENT.variants[0].name].durations
    return {
        name: {"macs": macs[name], "ms_p50": one.p50, "speedup": asdict(ratio(whole, one.durations))}
        for name, one in timings.items()
    }


def document(folder: Path, recipe: str, changes: Sequence[str], runs: int) -> dict[str, Any]:
    """Everything that the result file says."""
    study = Study(EXPERIMENT, folder, recipe, seeds=(0,), changes=parse_changes(changes))
    sets = [word for change in changes for word in ("--set", change)]
    words = ["python", "-m", "edgefel.bench.experiments.keep_rates", folder, "--recipe", recipe, *sets]
    command = shlex.join(map(str, [*words, "--runs", runs]))
    head = one_thread("keep-rates", command, onnx=onnx, onnxruntime=onnxruntime, torch=torch)
    return head | {"runtime": "onnxruntime", "runs": runs, "costs": costs(study, runs)}


def figure(costs: Mapping[str, Any], outcome: Outcome) -> Any:
    """Accuracy over multiply-accumulates, and over milliseconds."""
    drawn = new_figure(10.5, 4.2)
    panels = drawn.subplots(1, 2, sharey=True)
    axes = (("macs", 1e-6, "multiply-accumulates in millions"), ("ms_p50", 1.0, "ms on one thread"))
    for panel, (key, scale, label) in zip(panels, axes, strict=True):
        for number, variant in enumerate(outcome.variants):
            accuracy = outcome.mean(variant.name, "accuracy")
            at = scale * costs[variant.name][key], 100 * accuracy.mean
            mark = {"marker": "osD^vP*"[number % 7], "capsize": 3, "label": variant.name}
            panel.errorbar(*at, yerr=100 * accuracy.half, **mark)
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy in %")
    panels[1].legend(fontsize=8)
    drawn.suptitle(f"{EXPERIMENT.title}: accuracy and cost")
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of edgefel ablate keep-rates")
    parser.add_argument("--recipe", default="nano", help="of the ablation [%(default)s]")
    how = "as in edgefel ablate"
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE", help=how)
    parser.add_argument("--runs", type=int, default=200, help="of each network [%(default)s]")
    sys.exit(run_bench(parser, document))
