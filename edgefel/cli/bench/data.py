"""`edgefel bench data`: images per second of the data path, and the cost of epochs of millions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars
from edgefel.cli.lazy import require
from edgefel.cli.param_types import ABOVE_ZERO, INTEGERS, PATH, POSITIVE, name_list
from edgefel.report.formats import significant
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.results import Row
    from edgefel.bench.timer import TimingPlan

STAGES = ("read", "decode", "resize", "read to batch", "cached to batch", "augment", "whole", "whole cached")


def _show(rows: Sequence[Row]) -> None:
    sampling = [row for row in rows if "rows" in row.subject]
    path = [row for row in rows if "rows" not in row.subject]
    if sampling:
        title = f"{counted(sampling[0].subject['rows'], 'image')}, balanced epochs (~: not stable)"
        sampled: options.Cells = {
            ">ms (95 % interval)": options.median,
            ">additional MB": "{additional_memory_mb}",
        }
        options.table(sampling, title, ("stage",), sampled)
    if path:
        model, size = path[0].subject["model"], path[0].subject["image_px"]
        title = f"The data path for {model}: images of {size} (~: not stable)"
        cells: options.Cells = {
            ">images/s": options.images_per_s,
            ">ms an image": lambda row: significant(1e3 / row.metrics["images_per_s"]),
            ">times training": "{times_training}",
        }
        options.table(path, title, ("stage", ">workers"), cells)


@click.command("data")
@params.data("The data set to read.  [default: none, the sampler alone with --rows]")
@click.option(
    "--model",
    default="arbex",
    shell_complete=params.models,
    help="Model whose image sizes are used; `edgefel models` lists them.",
)
@click.option("--workers", type=INTEGERS, default="1,2", help="Threads that read, decode and resize: 1,2,4.")
@click.option("--batch-size", "batch", type=POSITIVE, default=32, help="Images per batch.")
@click.option("--images", type=POSITIVE, default=256, help="Maximum number of images of one timed pass.")
@click.option(
    "--stages",
    type=name_list(STAGES),
    default=",".join(STAGES),
    show_default=False,
    help="Stages to time.  [default: all]",
)
@click.option(
    "--train-images-per-s",
    "rate",
    type=ABOVE_ZERO,
    help="Rate that training needs; each row gives its multiple of it.",
)
@click.option(
    "--train-rows",
    type=PATH,
    help="The same from rows of `edgefel bench train`: the fastest of the model.",
)
@click.option(
    "--rows",
    "count",
    type=POSITIVE,
    help="Time the balanced sampler on a synthetic table of N images: 2600000.",
)
@click.option("--videos", type=POSITIVE, default=550, help="Groups of that table.")
@params.threads
@options.timing
@options.results(_show)
def command(
    data: Path | None,
    model: str,
    rate: float | None,
    train_rows: Path | None,
    count: int | None,
    videos: int,
    plan: TimingPlan,
    bars: Bars,
    **chosen: Any,
) -> Sequence[Row]:
    """Images per second of the data path alone, stage by stage: does it keep up with training?

    Times reading, decoding and resizing separately on one thread; then the way from files, or from the memory cache,
    to batches, with and without augmentation, as in training. All ways to a batch are compared before anything is
    timed.

    \b
    Examples:
      edgefel bench data --data faces --quick
      edgefel bench data --data faces --workers 1,2,4 --train-rows results.jsonl -o results.jsonl
      edgefel bench data --data faces --train-images-per-s 2000 --stages 'read to batch'
      edgefel bench data --rows 2600000                      opening and sampling millions
    """
    if data is None and count is None:
        raise click.UsageError("nothing to time: give --data, or --rows N for the sampler alone")
    if rate is not None and train_rows is not None:
        raise click.UsageError("--train-images-per-s and --train-rows say the same; give one of them")
    require("train", "edgefel bench data", "torch")
    from edgefel.bench.data_path import (
        DataPathOptions,
        EpochOptions,
        TrainingRate,
        bench_data_path,
        bench_epochs,
        training_rate,
    )

    # all options are checked before anything is timed
    sampling = None if count is None else EpochOptions(count, videos, plan=plan)
    path = None
    if data is not None:
        training = None if rate is None else TrainingRate(rate, "as given")
        if train_rows is not None:
            training = training_rate(train_rows, model)
        path = DataPathOptions(data, model, plan=plan, training=training, **chosen)
    rows = () if sampling is None else bench_epochs(sampling, bars.share)
    return rows if path is None else rows + bench_data_path(path, bars.share)
