"""`edgefel calibrate`."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table, table_console, warn, warn_unreadable
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.experiments.calibration.comparison import Comparison
    from edgefel.calib.calibration_set import CalibrationSet
    from edgefel.calib.predicted_labels import FloatModel

DEFAULT_PER_CLASS = 64
# the measures of a comparison that the table shows
_SHOWN = {
    "macro_f1": "macro F1, %",
    "accuracy": "accuracy, %",
    "tail_accuracy": "accuracy of tail, %",
    "agreement": "agreement, %",
    "sqnr_db": "SQNR, dB",
}


@click.command("calibrate")
@params.data("Data set in any layout of docs/data.md, or a folder of images.", required=True)
@params.output("File to write (JSON), with --compare a folder; must not exist.")
@click.option(
    "--per-class",
    type=POSITIVE,
    multiple=True,
    help="Images per class; with --compare may be given several times.  [default: 64; compare: 1, 4, 16]",
)
@params.group_cap
@params.layout
@params.seed
@click.option(
    "--checkpoint", type=PATH, help="Checkpoint or run whose preprocessing and predictions are used."
)
@click.option("--bundle", type=PATH, help="The same with a bundle's FP32 file, without PyTorch.")
@click.option(
    "--use-predictions", is_flag=True, help="Balance by the model's predictions instead of the labels."
)
@click.option(
    "--compare", is_flag=True, help="Measure the effect of balanced images, instead of choosing some."
)
@click.option("--seeds", type=click.IntRange(min=2), help="Draws to compare on.  [default: 5]")
@click.option(
    "--imbalance",
    type=click.FloatRange(min=1),
    help="Size ratio of the largest to the rarest class.  [default: 50]",
)
@click.option("--method", help="How ranges are chosen, as with export's --calibration.  [default: sqnr]")
@click.option("--images", type=POSITIVE, help="Held-out images to judge on.  [default: all]")
@params.json_output
def command(
    data: Path,
    output: Path,
    per_class: tuple[int, ...],
    group_cap: int,
    layout: str | None,
    seed: int,
    checkpoint: Path | None,
    bundle: Path | None,
    use_predictions: bool,
    compare: bool,
    as_json: bool,
    **comparing: Any,
) -> None:
    """Choose the images for INT8 calibration: the same number of each class.

    The images of the splits val and test are left out. The file lists every image with its hash; the same data and
    seed choose the same images. Images without labels, in folders of any depth, are balanced by the predictions of
    --checkpoint or --bundle.

    With --compare, INT8 files calibrated on balanced, on random and on most-frequent-class images of a long-tailed
    set are judged on the held-out split.

    \b
    Examples:
      edgefel calibrate --data faces -o calibration.json
      edgefel calibrate --data faces -o calibration.json --per-class 128 --group-cap 8 --json
      edgefel calibrate --data AffectNet -o calibration.json --layout affectnet-7
      edgefel calibrate --data recordings -o calibration.json --checkpoint runs/nano
      edgefel calibrate --data faces --compare --checkpoint runs/nano --per-class 2 --per-class 16 -o comparison
    """
    params.refuse_both("checkpoint", "bundle")
    given = {name: value for name, value in comparing.items() if value is not None}
    if compare:
        if checkpoint is None or use_predictions:
            raise EdgefelError(
                "--compare needs --checkpoint and labels; leave out --bundle and --use-predictions"
            )
        sizes = {"per_class": per_class} if per_class else {}
        _compare(data, layout, output, checkpoint, as_json, group_cap=group_cap, seed=seed, **sizes, **given)
        return
    if given or len(per_class) > 1:
        named = ", ".join(f"--{name}" for name in given) or "several --per-class"
        raise EdgefelError(f"{named}: only with --compare; leave it out or add --compare")
    if output.exists():
        raise EdgefelError(f"{output}: exists; choose another file or remove it first")
    from edgefel.calib.calibration_set import write_calibration_set
    from edgefel.calib.predicted_labels import float_model_of_bundle, float_model_of_checkpoint

    model = None
    if checkpoint is not None:
        require("train", "edgefel calibrate --checkpoint", "torch", "safetensors")
        model = float_model_of_checkpoint(checkpoint)
    elif bundle is not None:
        model = float_model_of_bundle(bundle)
    drawing = {"per_class": (per_class or (DEFAULT_PER_CLASS,))[0], "group_cap": group_cap, "seed": seed}
    chosen, more = _choose(data, layout, model, use_predictions, drawing)
    write_calibration_set(output, chosen)
    if not as_json:
        _show(chosen, output)
        return
    summary = {
        "file": str(output),
        "images": len(chosen.images),
        "counts": chosen.counts,
        "groups": len(chosen.groups),
        "short": list(chosen.short),
        "labelled_by": chosen.labelled_by,
        "layout": chosen.layout,
        "key": chosen.key(),
    }
    print_json(summary | more)


def _choose(
    data: Path, layout: str | None, model: FloatModel | None, use_predictions: bool, drawing: dict[str, int]
) -> tuple[CalibrationSet, dict[str, Any]]:
    """The set, after warnings of what it lacks; "classes" and "skipped" for the JSON summary.

    drawing: per_class, group_cap and seed.
    """
    from edgefel.calib.calibration_set import choose_calibration_set
    from edgefel.calib.predicted_labels import predict_labels
    from edgefel.data.open import is_labelled, open_dataset
    from edgefel.data.readers.folder import open_unlabelled

    # open_dataset reports a folder that does not exist, or that is not of its --layout
    labelled = layout is not None or is_labelled(data) or not data.is_dir()
    if not labelled and model is None:
        raise EdgefelError(
            f"{data}: has neither labels.csv nor folders named after expressions; give a model whose predictions "
            "stand in, with --checkpoint or --bundle"
        )
    if use_predictions and model is None:
        raise EdgefelError("--use-predictions: give the model with --checkpoint or --bundle")
    dataset = open_dataset(data, layout=layout) if labelled else open_unlabelled(data)
    predicted = matched = None
    with Bars() as progress:
        if model is not None and (use_predictions or not labelled):
            predicted = predict_labels(dataset, model, progress.follower("labelling images"))
            dataset = predicted.dataset
        elif model is not None:
            matched = dataset.matched(model.labels)
            dataset = matched.dataset
        chosen = choose_calibration_set(
            dataset,
            **drawing,
            model=model.identity if model is not None and predicted is not None else None,
            preprocessing=None if model is None else model.preprocessing,
            layout=layout,
            advance=progress.follower("hashing images"),
        )
    never, skipped = ((), ()) if predicted is None else (predicted.never, predicted.skipped)
    warn(*([] if matched is None else matched.notes(judged=False)))
    warn_unreadable([path.name for path in skipped])
    warn(*(f"the model takes no image for {label}, so none calibrates it" for label in never))
    for label in [label for label in chosen.short if label not in never]:
        warn(
            f"{label} has {counted(chosen.counts[label], 'image')} to give (at most {chosen.group_cap} of one "
            f"subject or video), fewer than {chosen.per_class}"
        )
    return chosen, {
        "classes": None if matched is None else matched.to_dict(),
        "skipped": [str(path) for path in skipped],
    }


def _show(chosen: CalibrationSet, output: Path) -> None:
    groups = counted(len(chosen.groups), "subject or video", "subjects or videos")
    rows = [(label, str(count)) for label, count in chosen.counts.items()]
    print_table(("class", ">images"), rows, f"{counted(len(chosen.images), 'image')} of {groups}")
    by = "" if chosen.model is None else f", labelled by {chosen.model.name} ({chosen.model.file})"
    votes = (chosen.layout or "").partition(":")[2]
    click.echo(f"wrote {output}{by}" + (f"; labels: votes of {votes}" if votes else ""))


def _compare(
    data: Path, layout: str | None, output: Path, checkpoint: Path, as_json: bool, **options: Any
) -> None:
    """Runs the comparison, writes the folder `output` and prints the results. Bad input is refused at once."""
    require("export", "edgefel calibrate --compare", "torch", "onnx", "onnxscript", "onnxsim", "matplotlib")
    from edgefel.bench.experiments.calibration.comparison import (
        ComparisonOptions,
        compare_strategies,
        plan_comparison,
    )
    from edgefel.bench.experiments.calibration.report import comparison_document, write_comparison
    from edgefel.data.open import open_dataset
    from edgefel.data.preprocessing import Preprocessing
    from edgefel.export.bundle import tool_versions
    from edgefel.export.onnx.trace import export_onnx
    from edgefel.files.write import check_free, sha256
    from edgefel.models.checkpoint import WEIGHTS_FILE, load_checkpoint

    chosen = ComparisonOptions(**options)
    check_free(output)
    dataset = open_dataset(data, layout=layout)
    loaded = load_checkpoint(checkpoint)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    plan = plan_comparison(dataset, loaded.labels, chosen)
    warn(*plan.matched.notes())
    with Bars() as progress:
        progress.start("trace and simplify")
        graph = export_onnx(loaded.model, input_size=preprocessing.output_size)
        comparison = compare_strategies(graph, preprocessing, plan, progress)
    source = {"checkpoint": loaded.path.name, "sha256": sha256(loaded.path / WEIGHTS_FILE)}
    source |= {"model": loaded.config.name, "data": data.name}
    if dataset.votes is not None:
        source["votes"], layout = dataset.votes.file, dataset.votes.layout
    # every option with its value, so that the command repeats the comparison
    repeated = {"data": data, "checkpoint": checkpoint, "output": output, "layout": layout} | asdict(chosen)
    words = ["edgefel", "calibrate", "--compare"]
    for name, value in repeated.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += [] if one is None else [f"--{name.replace('_', '-')}", str(one)]
    document = comparison_document(comparison, source, tool_versions(), shlex.join(words))
    write_comparison(output, comparison, document)
    warn_unreadable([path.name for path in comparison.skipped])
    if as_json:
        print_json({"folder": str(output), **document})
    else:
        _show_comparison(comparison, output)


def _show_comparison(comparison: Comparison, output: Path) -> None:
    from edgefel.bench.experiments.calibration.report import shown, verdicts
    from edgefel.cli.tables import make_table

    seeds = counted(comparison.plan.options.seeds, "seed")
    columns = (">per class", "calibrated on", *(f">{title}" for title in _SHOWN.values()))
    table = make_table(columns, title=f"{output}: means over {seeds} [95 % interval]")
    for size, group in groupby(comparison.summaries, key=lambda summary: summary.per_class):
        table.add_section()
        # FP32's agreement and SQNR with itself mean nothing
        left_out = ("agreement", "sqnr_db") if size is None else ()
        for summary in group:
            cells = ("" if name in left_out else shown(name, summary.measures[name]) for name in _SHOWN)
            table.add_row("" if size is None else str(size), summary.strategy, *cells)
    table_console().print(table)
    for line in verdicts(comparison):
        click.echo(line)
