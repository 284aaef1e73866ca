"""`edgefel calibrate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edgefel.calib.calibration_set import CalibrationSet
    from edgefel.calib.predicted_labels import FloatModel, PredictedLabels
    from edgefel.data.dataset import MatchedDataset

DEFAULT_PER_CLASS = 64


@click.command("calibrate")
@click.argument("data", type=click.Path(path_type=Path))
@params.output("File to write (JSON), with --compare a folder; must not exist.")
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    multiple=True,
    help="Images of every class; with --compare may be given several times.  [default: 64; compare: 1, 4, 16]",
)
@params.group_cap
@params.layout
@params.seed
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Checkpoint or run: its preprocessing, its predictions.",
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="The same from a bundle's FP32 file, without PyTorch."
)
@click.option(
    "--use-predictions", is_flag=True, help="Balance on the model's predictions although there are labels."
)
@click.option("--compare", is_flag=True, help="Measure what balanced images bring, instead of choosing some.")
@click.option("--seeds", type=click.IntRange(min=2), help="Draws to compare on.  [default: 5]")
@click.option(
    "--imbalance", type=click.FloatRange(min=1), help="Most frequent : rarest class.  [default: 50]"
)
@click.option("--method", help="How ranges are chosen, as export's --calibration.  [default: mse]")
@click.option("--images", type=click.IntRange(min=1), help="Held-out images to judge on.  [default: all]")
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
    """Choose the images that INT8 calibration sees: the same number of every class.

    DATA is a labelled data set in any layout of docs/data.md. The images of its splits val and test stay out.
    The file lists every image with its hash; the same data and seed choose the same images. Images without
    labels, in folders of any depth, are balanced on the predictions of --checkpoint or --bundle.

    With --compare, INT8 files calibrated on balanced, on random and on most-frequent-class images of a long tail
    are judged on the held-out split.

    \b
    Examples:
      edgefel calibrate faces -o calibration.json
      edgefel calibrate faces -o calibration.json --per-class 128 --group-cap 8 --json
      edgefel calibrate AffectNet -o calibration.json --layout affectnet-7
      edgefel calibrate recordings -o calibration.json --checkpoint runs/nano
      edgefel calibrate faces --compare --checkpoint runs/nano --per-class 2 --per-class 16 -o comparison
    """
    if checkpoint is not None and bundle is not None:
        raise EdgefelError("--checkpoint and --bundle exclude each other; give one model")
    given = {name: value for name, value in comparing.items() if value is not None}
    if compare:
        from edgefel.cli.calibration_comparison import compare_and_show

        if checkpoint is None or use_predictions:
            raise EdgefelError(
                "--compare needs --checkpoint and labels; leave out --bundle and --use-predictions"
            )
        options = {**given, "group_cap": group_cap, "seed": seed}
        if per_class:
            options["per_class"] = per_class
        compare_and_show(data, output, checkpoint, options, as_json, layout)
        return
    if given or len(per_class) > 1:
        named = ", ".join(f"--{name}" for name in given) or "several --per-class"
        raise EdgefelError(f"{named}: only with --compare; leave it out or add --compare")
    if output.exists():
        raise EdgefelError(f"{output}: exists; choose another file or remove it first")
    from edgefel.calib.calibration_set import write_calibration_set

    model = _open_model(checkpoint, bundle)
    chosen, predicted, matched = _choose(
        data, layout, model, use_predictions, (per_class or (DEFAULT_PER_CLASS,))[0], group_cap, seed
    )
    write_calibration_set(output, chosen)
    for line in [*(() if matched is None else matched.notes(judged=False)), *_warnings(chosen, predicted)]:
        click.echo(f"warning: {line}", err=True)
    if as_json:
        click.echo(json.dumps(_summary(chosen, predicted, matched, output), indent=2))
    else:
        _show(chosen, output)


def _open_model(checkpoint: Path | None, bundle: Path | None) -> FloatModel | None:
    if checkpoint is not None:
        for module in ("torch", "safetensors"):
            require(module, "train", "edgefel calibrate --checkpoint")
        from edgefel.calib.predicted_labels import float_model_of_checkpoint

        return float_model_of_checkpoint(checkpoint)
    if bundle is not None:
        from edgefel.calib.predicted_labels import float_model_of_bundle

        return float_model_of_bundle(bundle)
    return None


def _choose(
    data: Path,
    layout: str | None,
    model: FloatModel | None,
    use_predictions: bool,
    per_class: int,
    group_cap: int,
    seed: int,
) -> tuple[CalibrationSet, PredictedLabels | None, MatchedDataset | None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgefel.calib.calibration_set import choose_calibration_set
    from edgefel.calib.predicted_labels import predict_labels
    from edgefel.data.open import is_labelled, open_dataset
    from edgefel.data.readers.folder import open_unlabelled

    # a folder that is missing altogether, and one that is not of its --layout, are explained by open_dataset
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        if model is not None and (use_predictions or not labelled):
            task = progress.add_task("labelling images", total=None)
            predicted = predict_labels(dataset, model, _bar(progress, task))
            dataset = predicted.dataset
        elif model is not None:
            matched = dataset.matched(model.labels)
            dataset = matched.dataset
        task = progress.add_task("hashing images", total=None)
        chosen = choose_calibration_set(
            dataset,
            per_class,
            group_cap,
            seed,
            model=model.identity if model is not None and predicted is not None else None,
            preprocessing=None if model is None else model.preprocessing,
            layout=layout if dataset.votes is None else dataset.votes.layout,
            advance=_bar(progress, task),
        )
    return chosen, predicted, matched


def _bar(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(task, completed=done, total=total)


def _warnings(chosen: CalibrationSet, predicted: PredictedLabels | None) -> list[str]:
    lines = []
    never: tuple[str, ...] = ()
    if predicted is not None:
        never = predicted.never
        if predicted.skipped:
            named = ", ".join(path.name for path in predicted.skipped[:3])
            lines.append(f"{counted(len(predicted.skipped), 'unreadable image')} skipped: {named}")
    lines += [f"the model takes no image for {label}, so none calibrates it" for label in never]
    lines += [
        f"{label} has {counted(chosen.counts[label], 'image')} to give (at most {chosen.group_cap} of one subject or "
        f"video), fewer than {chosen.per_class}"
        for label in chosen.short
        if label not in never
    ]
    return lines


def _summary(
    chosen: CalibrationSet, predicted: PredictedLabels | None, matched: MatchedDataset | None, output: Path
) -> dict[str, Any]:
    return {
        "file": str(output),
        "images": len(chosen.images),
        "counts": chosen.counts,
        "classes": None if matched is None else matched.to_dict(),
        "groups": len(chosen.groups),
        "short": list(chosen.short),
        "labelled_by": chosen.labelled_by,
        "layout": chosen.layout,
        "skipped": [] if predicted is None else [str(path) for path in predicted.skipped],
        "key": chosen.key(),
    }


def _show(chosen: CalibrationSet, output: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    groups = counted(len(chosen.groups), "subject or video", "subjects or videos")
    table = Table("class", title=f"{counted(len(chosen.images), 'image')} of {groups}")
    table.add_column("images", justify="right")
    for label, count in chosen.counts.items():
        table.add_row(escape(label), str(count))
    table_console().print(table)
    by = "" if chosen.model is None else f", labelled by {chosen.model.name} ({chosen.model.file})"
    votes = (chosen.layout or "").partition(":")[2]
    click.echo(f"wrote {output}{by}" + (f"; labels: votes of {votes}" if votes else ""))
