"""`edgefel bench`: measure speed, memory and accuracy."""

from __future__ import annotations

import click

from edgefel.cli.lazy import LazyGroup

COMMANDS = {
    "pick": "The fastest file and backend of a bundle here, kept for --backend auto.",
    "latency": "Latency of a bundle: the model alone, and each stage from an image to labels.",
    "throughput": "Images per second by number of concurrent callers.",
    "compare": "Models and backends in one run: speed, accuracy, size, memory.",
    "profile": "Where the time of a call goes, by groups of operators.",
    "quantizers": "INT8 by edgefel, NNCF, ONNX Runtime and NVIDIA ModelOpt: agreement, size, speed.",
    "data": "The data path: images per second of every stage, and epochs of millions.",
    "train": "Training: images per second and memory, with and without kernels.",
    "roofline": "Lower bound on latency from the operations and bytes of every layer.",
    "kernels": "The fused kernels against other implementations.",
    "report": "One page, or Markdown, of result rows.",
    "diff": "Compare two result files of the same device; for CI.",
}


@click.command("bench", cls=LazyGroup, package="edgefel.cli.bench", helps=COMMANDS)
def command() -> None:
    """Measure speed, memory and accuracy.

    Rows are appended to a JSON Lines file with -o.

    \b
    Examples:
      edgefel bench compare --quick                    the best choice on this machine, in three minutes
      edgefel bench pick                               what --backend auto takes from now on
      edgefel bench latency bundle -o results.jsonl
      edgefel bench report results.jsonl -o report.html
      edgefel bench diff before.jsonl after.jsonl --fail-over 5%
    """
