"""`edgefel bench data`: images per second of the data path, and what epochs of millions cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.common import BenchProgress, IntegerList, NameList
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.data_path import TrainingRate
    from edgefel.bench.results import Row

STAGES = (
    "read",
    "decode",
    "resize",
    "read to batch",
    "cached to batch",
    "augment",
    "whole",
    "whole cached",
)


@click.command("data")
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model", default="arbex", show_default=True, help="Whose image sizes; edgefel models lists them."
)
@click.option(
    "--workers",
    type=IntegerList(),
    default="1,2",
    show_default=True,
    help="Threads that read, decode and resize: 1,2,4.",
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Images of a batch.")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Images of one timed pass, at most.",
)
@click.option(
    "--stages",
    type=NameList(STAGES),
    default=",".join(STAGES),
    help=f"Of these: {', '.join(STAGES)}.  [default: all]",
)
@click.option(
    "--train-images-per-s",
    "rate",
    type=params.FiniteRange(0, min_open=True),
    help="What the path has to feed; each row says how many times that it is.",
)
@click.option(
    "--train-rows",
    type=click.Path(path_type=Path),
    help="The same from rows of edgefel bench train: the fastest of the model.",
)
@click.option(
    "--rows",
    "count",
    type=click.IntRange(min=1),
    help="Time the balanced sampler on a drawn table of so many images: 2600000.",
)
@click.option(
    "--videos", type=click.IntRange(min=1), default=550, show_default=True, help="Groups of that table."
)
@params.threads
@options.quick
@options.runs
@options.seconds("10 s of each; 2 if quick")
@options.rows
@params.json_output
def command(
    data: Path | None,
    model: str,
    workers: tuple[int, ...],
    batch: int,
    images: int,
    stages: tuple[str, ...],
    rate: float | None,
    train_rows: Path | None,
    count: int | None,
    videos: int,
    threads: int | None,
    quick: bool,
    runs: int | None,
    seconds: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Images per second of the data path alone, stage by stage: is training fed fast enough?

    Reading, decoding and resizing by themselves on one thread; then from files, or from the memory cache, to batches,
    with augmentation and without, as training does it. All ways to a batch are compared before anything is timed.

    \b
    Examples:
      edgefel bench data faces --quick
      edgefel bench data faces --workers 1,2,4 --train-rows results.jsonl -o results.jsonl
      edgefel bench data faces --train-images-per-s 2000 --stages 'read to batch'
      edgefel bench data --rows 2600000                      opening and sampling millions
    """
    if data is None and count is None:
        raise click.UsageError("nothing to time: give a data set, or --rows N for the sampler alone")
    if rate is not None and train_rows is not None:
        raise click.UsageError("--train-images-per-s and --train-rows say the same; give one of them")
    require("torch", "train", "edgefel bench data")
    from edgefel.bench.results import check_writable

    if output is not None:
        check_writable(output)
    plan = options.make_plan(quick, runs, seconds)
    from edgefel.bench import data_path, epochs

    sampling = None if count is None else epochs.Options(count, videos, plan=plan)
    path = None
    if data is not None:
        training = _training(rate, train_rows, model)
        path = data_path.Options(data, model, workers, batch, images, stages, threads, plan, training)
    with BenchProgress() as progress:
        rows: list[Row] = []
        if sampling is not None:
            rows += epochs.bench_epochs(sampling, progress.show)
        if path is not None:
            rows += data_path.bench_data_path(path, progress.show)
    options.finish(rows, output, as_json, lambda: show(rows))


def _training(rate: float | None, rows: Path | None, model: str) -> TrainingRate | None:
    from edgefel.bench.data_path import TrainingRate, training_rate

    if rows is not None:
        return training_rate(rows, model)
    return None if rate is None else TrainingRate(rate, "as given")


def show(rows: Sequence[Row]) -> None:
    """A table for the sampler and one for the path, where there are such rows."""
    from rich.table import Table

    sampling = [row for row in rows if "rows" in row.subject]
    path = [row for row in rows if "rows" not in row.subject]
    if sampling:
        table = Table(
            title=f"{counted(sampling[0].subject['rows'], 'image')}, balanced epochs (~: not stable)"
        )
        for name in ("stage", "ms (95 % interval)", "additional MB"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for row in sampling:
            metrics = row.metrics
            memory = options.number(metrics["additional_memory_mb"])
            table.add_row(row.subject["stage"], options.interval(metrics["latency_ms"]), memory)
        table_console().print(table)
    if path:
        model, size = path[0].subject["model"], path[0].subject["image_px"]
        table = Table(title=f"The data path for {model}: images of {size} (~: not stable)")
        for name in ("stage", "workers", "images/s", "ms an image", "times training"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for row in path:
            subject, metrics = row.subject, row.metrics
            rate = metrics["images_per_s"]
            table.add_row(
                subject["stage"],
                "-" if subject["workers"] is None else str(subject["workers"]),
                options.number(rate) + ("" if metrics["latency_ms"]["stable"] else " ~"),
                options.number(1e3 / rate),
                options.number(metrics.get("times_training")),
            )
        table_console().print(table)
