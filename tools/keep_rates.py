"""What it costs to keep how many tokens: the networks of `edgefel ablate keep-rates`, timed in turn.

    python tools/keep_rates.py time ablations > docs/results/keep-rates.json
    python tools/keep_rates.py show docs/results/keep-rates.json docs/results/ablations.jsonl -o docs/images

`time` takes the first seed's last checkpoint of each variant, exports it and runs it in ONNX Runtime: batch 1, one
thread, all in turn, so that whatever slows the machine slows all. `show` prints a table of accuracy beside cost, and
draws keep_rates.png.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgefel.bench.ablation.papers import EXPERIMENTS
from edgefel.bench.ablation.plan import Study, parse_changes, plan
from edgefel.bench.ablation.verdict import Outcome, interval
from edgefel.bench.ablation.worker import RUN
from edgefel.bench.results import read_results
from edgefel.bench.statistics import ratio
from edgefel.bench.timer import Plan, measure
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import export_onnx, serialize
from edgefel.models.profile import profile
from edgefel.report.figures import new_figure
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.training.run_folder import RunFolder

EXPERIMENT = EXPERIMENTS["keep-rates"]
WHOLE = EXPERIMENT.variants[0].name


def session(graph: Any) -> ort.InferenceSession:
    """On one thread of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(serialize(graph), options, providers=["CPUExecutionProvider"])


def timed(study: Study, runs: int) -> dict[str, Any]:
    """Costs by variant: multiply-accumulates, the median in ms, and the ratio of keeping all to it."""
    calls, macs = {}, {}
    for run in plan(study):
        if not run.result.is_file():
            raise EdgefelError(
                f"{run.folder}: no result; run edgefel ablate keep-rates with the same options first"
            )
        model = RunFolder(run.folder / RUN).load_last()[0].model.eval()
        side = model.config.input_size
        image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
        runner = session(export_onnx(model))
        calls[run.variant] = lambda runner=runner, image=image: runner.run(None, {INPUT_NAME: image})
        macs[run.variant] = profile(model.config).macs
    timings = measure(calls, Plan(min_runs=runs, max_runs=runs, seconds=0))
    whole = timings[WHOLE].durations
    return {
        name: {
            "macs": macs[name],
            "ms_p50": timing.p50,
            "speedup": asdict(ratio(whole, timing.durations)),
        }
        for name, timing in timings.items()
    }


def document(study: Study, runs: int) -> dict[str, Any]:
    """Everything that the result file says."""
    changes = "".join(f" --set {name}={value}" for name, value in study.changes.items())
    return {
        "bench": "keep-rates",
        "command": f"python tools/keep_rates.py time ablations --recipe {study.recipe}{changes} --runs {runs}",
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "runs": runs,
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "torch")},
        "costs": timed(study, runs),
    }


def markdown(costs: dict[str, Any], outcome: Outcome) -> str:
    """Accuracy beside cost."""
    lines = [
        "| keeps | accuracy | MACs in millions | ms | times as fast |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for variant in outcome.variants:
        cost = costs[variant.name]
        accuracy = interval(outcome.values(variant.name, "accuracy"))
        faster = cost["speedup"]
        lines.append(
            f"| {variant.name} | {100 * accuracy.mean:.1f} % ± {100 * accuracy.half:.1f} | {cost['macs'] / 1e6:.1f} | "
            f"{cost['ms_p50']:.2f} | {faster['value']:.2f} ({faster['low']:.2f} to {faster['high']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def figure(costs: dict[str, Any], outcome: Outcome) -> Any:
    """Accuracy over multiply-accumulates, and over milliseconds."""
    drawn = new_figure(10.5, 4.2)
    panels = drawn.subplots(1, 2, sharey=True)
    for panel, key, scale, label in zip(
        panels,
        ("macs", "ms_p50"),
        (1e-6, 1.0),
        ("multiply-accumulates in millions", "ms on one thread"),
        strict=True,
    ):
        for number, variant in enumerate(outcome.variants):
            accuracy = interval(outcome.values(variant.name, "accuracy"))
            panel.errorbar(
                scale * costs[variant.name][key],
                100 * accuracy.mean,
                yerr=100 * accuracy.half,
                marker="osD^vP*"[number % 7],
                capsize=3,
                label=variant.name,
            )
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy in %")
    panels[1].legend(fontsize=8)
    drawn.suptitle(f"{EXPERIMENT.title}: accuracy and cost")
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    clock = commands.add_parser("time", help="time the networks of an ablation's folder")
    clock.add_argument("folder", type=Path)
    clock.add_argument("--recipe", default="nano", help="of the ablation (default: nano)")
    clock.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="as in edgefel ablate"
    )
    clock.add_argument("--runs", type=int, default=200, help="of each network (default: 200)")
    shown = commands.add_parser("show", help="table and plot of what was measured")
    shown.add_argument("costs", type=Path)
    shown.add_argument("rows", type=Path)
    shown.add_argument("-o", "--output", type=Path, help="folder for keep_rates.png")
    options = parser.parse_args(arguments)
    if options.command == "time":
        changes = parse_changes(options.set)
        study = Study(EXPERIMENT, options.folder, options.recipe, seeds=(0,), changes=changes)
        print(json.dumps(document(study, options.runs), indent=2))
        return 0
    costs = json.loads(options.costs.read_text(encoding="utf-8"))["costs"]
    outcome = Outcome.of_rows(EXPERIMENT, read_results(options.rows).rows)
    print(markdown(costs, outcome))
    if options.output:
        figure(costs, outcome).savefig(options.output / "keep_rates.png", dpi=110)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgefelError as error:
        sys.exit(f"error: {error}")
