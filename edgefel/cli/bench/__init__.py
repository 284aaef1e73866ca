"""`edgefel bench`: measure speed, memory and accuracy side by side."""

from __future__ import annotations

import click

from edgefel.cli.lazy import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "latency": (
        "edgefel.cli.bench.latency",
        "Milliseconds of a bundle: the model alone, and stage by stage from an image to labels.",
    ),
    "throughput": (
        "edgefel.cli.bench.throughput",
        "Images per second with more and more callers, and where more of them only wait.",
    ),
    "compare": (
        "edgefel.cli.bench.compare",
        "Models and backends against each other in one run: speed, accuracy, size, memory.",
    ),
    "data": (
        "edgefel.cli.bench.data",
        "The data path: images per second of every stage, and epochs of millions.",
    ),
    "train": ("edgefel.cli.bench.train", "Training: images per second and memory, kernels on and off."),
    "roofline": (
        "edgefel.cli.bench.roofline",
        "What a device cannot go below: operations and bytes of every layer at its ceilings.",
    ),
    "kernels": (
        "edgefel.cli.bench.kernels",
        "The fused kernels against everything that computes the same.",
    ),
    "report": ("edgefel.cli.bench.report", "One page, or Markdown, of result rows."),
    "diff": ("edgefel.cli.bench.diff", "Compare two result files of the same device; for CI."),
}


@click.command("bench", cls=LazyGroup, commands_at=COMMANDS)
def command() -> None:
    """Measure speed, memory and accuracy side by side.

    Rows go to a file of JSON lines with -o, which is only ever appended to.

    \b
    Examples:
      edgefel bench compare --quick                    what to use here, in three minutes
      edgefel bench latency bundle -o results.jsonl
      edgefel bench report results.jsonl -o report.html
      edgefel bench diff before.jsonl after.jsonl --fail-over 5%
    """
