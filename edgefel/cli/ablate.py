"""`edgefel ablate`."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import print_json, print_table, progress_bars, say_lost
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE, FiniteRange
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edgefel.bench.experiments.ablation.plan import Study, StudyRun
    from edgefel.bench.experiments.ablation.verdict import Outcome

EXPERIMENTS = (
    *("head", "losses", "anchors", "noise", "smoothing", "lambda", "augmentation", "balance", "remedies"),
    *("resolution", "keep-rates", "noise-losses"),
)
FAILED = 1  # exit code where runs failed


@click.command("ablate")
@click.argument("experiment", type=click.Choice(EXPERIMENTS))
@params.output(
    "Folder for the runs of all experiments; finished runs in it are reused.",
    default="ablations",
    required=False,
)
@click.option(
    "--recipe",
    type=click.Choice(["nano", "scratch", "full", "quick"]),
    default="nano",
    help="nano: arbex-nano on streams trained on other faces, minutes a run on a CPU; scratch: from random weights; "
    "full: arbex with the papers' recipe, for a GPU; quick: a check that the command works.",
)
@params.data("Labelled set with the splits train and test.  [default: faces are rendered]")
@params.layout
@click.option(
    "--streams",
    type=PATH,
    help="Checkpoint or run whose image and landmark streams all runs start from.  [default: the recipe's, trained on "
    "other rendered faces]",
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, help="Runs of each variant.")
@click.option("--first-seed", type=click.IntRange(min=0), default=0, help="First seed.")
@click.option(
    "--only", multiple=True, metavar="VARIANT", help="Only this row of the table; repeat for several."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change the recipe, e.g. epochs=3 or loss.correction_ramp=none; repeat for several.",
)
@click.option(
    "--patience",
    type=POSITIVE,
    metavar="N",
    help="Early stopping: a run ends after N validations without a better score, one each epoch unless --set "
    "eval_every says otherwise, and its best checkpoint is judged.  [default: all epochs, the last checkpoint]",
)
@click.option(
    "--jobs", type=POSITIVE, help="Concurrent runs.  [default: one for each GPU, else for each core]"
)
@params.cluster_alone
@click.option(
    "--gpus",
    type=FiniteRange(min=0),
    default=0.0,
    help="With --cluster: GPUs of a run, such as 1, or 0.5 for two runs on each.",
)
@click.option("--dry-run", is_flag=True, help="List the runs and their state; train nothing.")
@params.quiet
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    /,
    experiment: str,
    output: Path,
    seeds: int,
    first_seed: int,
    settings: tuple[str, ...],
    patience: int | None,
    jobs: int | None,
    cluster: str | None,
    gpus: float,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Rerun a table of the papers: a grid of trainings over seeds, and whether the papers' ordering holds.

    Writes FOLDER/EXPERIMENT/ with rows.jsonl, table.md, plot.png and verdict.json. Ctrl-C saves every active run; the
    same command continues them. The experiments of a folder share runs with equal settings. Exit code 0 whatever the
    verdict; 1 if runs failed (the others are kept); 2 for bad input; 130 if interrupted.

    \b
    Experiments:
      head           parts of the reliability head           anchors    anchors of each class
      losses         classification, anchor, center loss     noise      wrong training labels
      lambda         their weights                           smoothing  label smoothing
      augmentation   with and without                        balance    balanced epochs, on long-tailed faces
      remedies       changes that might make the head help; not in the papers
      resolution     small faces, with and without a learned resizer
      keep-rates     the shares of patches and tokens that APViT keeps
      noise-losses   wrong training labels: cross-entropy, label smoothing, F-PDLS

    \b
    Examples:
      edgefel ablate head
      edgefel ablate noise --seeds 5 --jobs 2
      edgefel ablate head --dry-run
      edgefel ablate head --set epochs=30 --patience 5
      edgefel ablate losses --set loss.correction_ramp=none -o no-ramp
      edgefel ablate head --data FER+ --streams runs/fer-plus-nano
      edgefel ablate head --recipe full --data RAF-DB --jobs 8       on a machine with eight GPUs
      edgefel ablate head --recipe full --data RAF-DB --cluster auto --gpus 1
    """
    modules = ("torch", "lightning_fabric", "sklearn", "safetensors", "yaml", "matplotlib")
    require("train", "edgefel ablate", *modules)
    from edgefel.bench.experiments.ablation.plan import Study, parse_changes, plan
    from edgefel.bench.experiments.ablation.study import experiment_for

    params.refuse_layout_alone()
    params.refuse_alone("gpus", "cluster")
    numbers = tuple(range(first_seed, first_seed + seeds))
    changes = parse_changes(settings)
    if patience is not None:
        changes = {"eval_every": 1, **changes, "patience": patience}
    about = experiment_for(experiment, chosen["data"], chosen["layout"])
    study = Study(about, output, seeds=numbers, changes=changes, **chosen)
    if output.is_file():
        raise EdgefelError(f"{output}: is a file; the runs need a folder")
    if dry_run:
        _list(plan(study), as_json)
        return
    import torch

    from edgefel.bench.experiments.ablation import report
    from edgefel.bench.experiments.ablation.pool import slots
    from edgefel.bench.experiments.ablation.study import run_study
    from edgefel.bench.experiments.ablation.trials import run_on_cluster
    from edgefel.tasks.choose import open_runner
    from edgefel.workers import usable_cores

    places = slots(jobs, torch.cuda.device_count(), usable_cores())
    with ExitStack() as stack:
        runner = stack.enter_context(open_runner(cluster, jobs)) if cluster else None
        bars = _Bars(study, stack.enter_context(progress_bars(disable=quiet or as_json)))
        train = partial(run_on_cluster, runner=runner, gpus=gpus, watch=bars.watch) if runner else None
        outcome, failures = run_study(study, places, bars.watch, bars.rendered, train)
    if runner is not None:
        say_lost(runner)
    if as_json:
        failed = [{"folder": str(run.folder), "message": message} for run, message in failures]
        print_json(report.to_dict(outcome) | {"failed": failed})
    else:
        _show(study, outcome)
    for run, message in failures:
        click.echo(f"failed: {run.variant}, seed {run.seed}: {message} (see {run.folder})", err=True)
    if failures:
        ctx.exit(FAILED)


def _list(runs: tuple[StudyRun, ...], as_json: bool) -> None:
    from edgefel.bench.experiments.ablation.pool import last_step

    rows = [
        {
            "variant": run.variant,
            "seed": run.seed,
            "folder": str(run.folder),
            "done": run.result.is_file(),
            "steps": last_step(run.folder / "run" / "metrics.csv"),
        }
        for run in runs
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "done" if row["done"] else (f"at step {row['steps']}" if row["steps"] else "to do")
        click.echo(f"{row['variant']}, seed {row['seed']}: {state} ({row['folder']})")
    left = len({row["folder"] for row in rows if not row["done"]})
    click.echo(f"{counted(len(rows), 'run')}, {left} to do")


def _show(study: Study, outcome: Outcome) -> None:
    from edgefel.bench.experiments.ablation import report
    from edgefel.bench.experiments.ablation.verdict import summary

    first, *others = report.COLUMNS
    title = f"{outcome.experiment.title} ({outcome.experiment.source})"
    print_table((first, *(f">{name}" for name in others)), report.rows(outcome), title)
    for claim, here, paper, verdict in report.claims(outcome):
        word, _, beside = verdict.partition(", ")
        stated = f", in the paper {paper}" if paper else ""
        found = f": {here}{stated}" + (f" ({beside})" if beside else "")
        click.echo(f"{word:>9}  {claim}" + (found if here else ""))
    click.echo(summary(outcome))
    click.echo(f"{study.folder / study.experiment.name}: table.md, plot.png, rows.jsonl, verdict.json")


class _Bars:
    """A bar for the faces, one for all runs and one for each active run."""

    def __init__(self, study: Study, progress: Progress) -> None:
        from edgefel.bench.experiments.ablation.plan import plan, pretraining

        self._study, self._progress = study, progress
        before = pretraining(study)
        runs = {run.folder: run for run in (*plan(study), *([before] if before else []))}
        done = sum(run.result.is_file() for run in runs.values())
        self._all = progress.add_task(f"{study.experiment.name}: runs", total=len(runs), completed=done)
        count = sum(faces.count for faces in (*study.faces, study.others) if faces)
        self._faces = progress.add_task("faces", total=count, visible=False)
        self._runs: dict[Path, TaskID] = {}

    def rendered(self, count: int) -> None:
        self._progress.update(self._faces, advance=count, visible=True)

    def watch(self, run: StudyRun, step: int | None) -> None:
        """See `run_all`."""
        if run.folder not in self._runs:
            name = f"{run.variant}, seed {run.seed}: steps"
            self._runs[run.folder] = self._progress.add_task(name, total=self._steps(run))
        if step is not None:
            self._progress.update(self._runs[run.folder], completed=step)
        else:
            self._progress.remove_task(self._runs.pop(run.folder))
            self._progress.advance(self._all)

    def _steps(self, run: StudyRun) -> int | None:
        """Planned number of steps; None while the number of classes is not known."""
        if not self._study.faces:
            return run.config.max_steps
        steps = run.config.epochs * (
            self._study.faces[0].classes * run.config.per_class // run.config.batch_size
        )
        return min(steps, run.config.max_steps or steps)
