"""Tables and plots of docs/experiments-*.md, from the rows of docs/results/ablations.jsonl.

python tools/ablation_tables.py docs/results/ablations.jsonl             prints the tables
python tools/ablation_tables.py docs/results/ablations.jsonl -o FOLDER   also draws FOLDER/ablation_EXPERIMENT.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgefel.bench.ablation import systems, table
from edgefel.bench.ablation.experiment import Experiment
from edgefel.bench.ablation.papers import EXPERIMENTS
from edgefel.bench.ablation.plan import Study
from edgefel.bench.ablation.plot import figure
from edgefel.bench.ablation.study import about
from edgefel.bench.ablation.verdict import Outcome
from edgefel.bench.results import Row, read_results

PARTS = ("primary", "geometric", "attentive", "corrected")


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """Of the experiments that there are rows of."""
    found = [Outcome.of_rows(experiment, rows) for experiment in EXPERIMENTS.values()]
    return [outcome for outcome in found if outcome.variants]


def trained(experiment: Experiment) -> str:
    """What on what, in a sentence."""
    return f"Here: {about(Study(experiment, Path()))}."


def diagnosis(outcome: Outcome) -> str:
    """What the parts of the head know by themselves: means over seeds. Empty where the experiment is not about it."""
    if outcome.experiment in (systems.RESOLUTION, systems.KEEP_RATES, systems.NOISE_LOSSES):
        return ""
    lines = [
        "| variant | primary | geometric | attentive | corrected | weight of the correction | fixed | spoiled | "
        "anchors in use | between anchors | between embeddings |",
        "| --- |" + " ---: |" * 10,
    ]
    for variant in outcome.variants:
        found = [r["diagnosis"] for r in outcome.results[variant.name].values() if not r["diverged"]]
        if not found:
            continue
        parts = [_mean([one["accuracy"].get(part) for one in found], 100, "{:.1f} %") for part in PARTS]
        anchors = [one["anchors"] or {} for one in found]
        cells = [
            _mean([one["weight"] for one in found], 1, "{:.2f}"),
            _mean([one["fixed"] for one in found], 100, "{:.1f} %"),
            _mean([one["spoiled"] for one in found], 100, "{:.1f} %"),
            _mean([one.get("used") for one in anchors], 100, "{:.0f} %"),
            _mean([one.get("spread") for one in anchors], 1, "{:.2f}"),
            _mean([one.get("embedding_spread") for one in anchors], 1, "{:.2f}"),
        ]
        lines.append(f"| {variant.name} | " + " | ".join([*parts, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float | None], scale: float, form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(scale * float(np.mean(known))) if known else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    for outcome in outcomes(read_results(options.rows).rows):
        print(table.markdown(outcome, trained(outcome.experiment)))
        print(diagnosis(outcome))
        if options.output:
            path = options.output / f"ablation_{outcome.experiment.name}.png"
            figure(outcome, about(Study(outcome.experiment, Path()))).savefig(path, dpi=110)


if __name__ == "__main__":
    main()
