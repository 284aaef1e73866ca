"""`edgefel train`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgefel import signals
from edgefel.cli import params
from edgefel.cli.console import Bars, first_names
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, files
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_yaml
from edgefel.text import counted
from edgefel.training.config import QAT_RECIPE, TrainConfig, load_config, settings
from edgefel.training.settings import Limits

GROUPS = {
    "": "Run",
    "model": "Model and data",
    "recipe": "Recipe",
    "qat": "Training for INT8",
    "loss": "Losses",
    "augment": "Augmentation (0 turns a part off)",
    "keeping": "Validation, checkpoints, log",
    "compute": "Where it runs",
}
_GROUP_OF = {
    **dict.fromkeys(("model", "data", "layout", "votes", "without_copies", "num_classes"), "model"),
    **dict.fromkeys(("model_settings", "init_from", "teacher", "freeze_backbones", "seed"), "model"),
    **dict.fromkeys(("qat", "qat_for", "qat_calibration", "qat_learn_ranges", "qat_range_lr"), "qat"),
    **dict.fromkeys(
        ("eval_every", "best_by", "patience", "checkpoint_every", "keep", "log_every"), "keeping"
    ),
}


def _group(path: str) -> str:
    section, dot, name = path.rpartition(".")
    return section if dot else _GROUP_OF.get(name, "recipe")


class GroupedCommand(click.Command):
    """Help with the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS.values()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                title = GROUPS[_group(_PATHS[parameter.name])] if parameter.name in _PATHS else GROUPS[""]
                rows[title].append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _option(path: str, item: dataclasses.Field[Any], limits: Limits) -> Callable[[Any], Any]:
    flag = "--" + item.name.replace("_", "-")
    kind = str(item.type).partition(" | ")[0]
    default = item.default
    text = limits.help
    if default not in (None, "", (), False) and default is not dataclasses.MISSING:
        text += f"  [default: {default}]"
    if item.name == "model_settings":
        return click.option(
            "--model-set", path, multiple=True, metavar="NAME=VALUE", help=_MODEL_SET_HELP, default=()
        )
    if kind == "bool":
        return click.option(f"{flag}/--no-{flag[2:]}", path, default=None, help=text)
    if kind.startswith("tuple"):
        return click.option(
            flag, path, multiple=True, metavar="PATH", help=text, default=(), shell_complete=files
        )
    types: dict[str, Any] = {"int": int, "float": float, "str": str}
    chosen = click.Choice(limits.choices) if limits.choices else types[kind]
    metavar = {"data": "DATA", "teacher": "CHECKPOINT", "qat": "CHECKPOINT"}.get(item.name)
    complete = _COMPLETED.get(item.name)
    return click.option(
        flag, path, type=chosen, metavar=metavar, default=None, help=text, shell_complete=complete
    )


# settings of any text, of which the shell completes some
_COMPLETED = {
    "model": params.models,
    "layout": params.layouts,
    **dict.fromkeys(("data", "teacher", "qat", "prior"), files),
}
_MODEL_SET_HELP = "Change the model, e.g. head.anchors_per_class=4; repeat for several."
# click names parameters by identifiers: "loss.smoothing" is the parameter "loss__smoothing"
_PATHS = {path.replace(".", "__"): path for path, _, _ in settings()}


def _setting_options(function: Callable[..., None]) -> Callable[..., None]:
    for path, item, limits in reversed(list(settings())):
        function = _option(path.replace(".", "__"), item, limits)(function)
    return function


@click.command("train", cls=GroupedCommand)
@click.option("-c", "--config", "config_file", type=PATH, help="YAML file with settings.")
@params.output("Folder of the new run; must not exist or be empty.", required=False)
@click.option("--resume", type=PATH, help="Continue this run from its last checkpoint.")
@params.max_pixels
@params.quiet
@_setting_options
def command(
    config_file: Path | None,
    output: Path | None,
    resume: Path | None,
    quiet: bool,
    **values: Any,
) -> None:
    """Train a model.

    Settings come from the defaults (the recipe of the ARBEx paper), then a YAML file, then flags; the result is
    stored in RUN/config.yaml. Ctrl-C, SIGTERM and SIGHUP save a checkpoint and stop; --resume continues from the
    last checkpoint, with the same result as a run that was never stopped.

    \b
    Examples:
      edgefel train --model arbex-nano --data faces -o runs/nano --epochs 20 --lr 1e-3
      edgefel train --model arbex --data RAF-DB --layout raf-db -o runs/raf-db
      edgefel train --model arbex --data fer-plus --votes fer2013new.csv --without-copies -o runs/fer-plus
      edgefel train --model apvit-nano+resizer --criterion f-pdls --data faces -o runs/apvit
      edgefel train -c recipe.yaml --data faces -o runs/full --batch-size 128 --precision bf16-mixed
      edgefel train --model arbex-nano --data faces -o runs/taught --teacher runs/full
      edgefel train --qat runs/nano --data faces -o runs/nano-int8
      edgefel train --model arbex-nano --data faces -o runs/short --epochs 200 --patience 10
      edgefel train --resume runs/nano
      edgefel train --resume runs/nano --data /mnt/faces
      edgefel train --data faces -o runs/ddp --devices 2 --accelerator cpu
      torchrun --nproc-per-node 8 -m edgefel.cli.main train --data faces -o runs/eight
    """
    modules = ("torch", "lightning_fabric", "safetensors", "yaml", "tensorboard", "sklearn")
    require("train", "edgefel train", *modules)
    changes = _changes(values)
    if (resume is None) == (output is None):
        raise EdgefelError("give either -o RUN to start a run or --resume RUN to continue one")
    if resume is not None and config_file is not None:
        raise EdgefelError(f"--resume uses the settings stored in {resume}; leave out --config")
    from edgefel.training import loop

    if resume is not None:
        result = loop.resume(resume, changes, quiet=quiet, quantize=_quantize)
    else:
        assert output is not None
        config = load_config(config_file) if config_file else TrainConfig()
        if "qat" in changes:
            changes = {**QAT_RECIPE, **changes}
        result = loop.train(config.replaced(changes), output, quiet=quiet, quantize=_quantize)
    if result.main_process:
        _report(result)
    # only the main process: a launcher takes a non-zero exit code of another process for a crash
    if result.interrupted and result.main_process:
        raise signals.Interrupted(
            signals.received() or signal.SIGINT,
            f"stopped at step {result.step}; continue with: edgefel train --resume {result.run}",
        )


def _quantize(*run: Any) -> Any:
    """`edgefel.export.qat`, imported for a run with --qat alone."""
    require("train", "edgefel train --qat", "onnx", "onnxscript", "onnxsim", "onnxruntime")
    from edgefel.export.qat.student import quantize

    with Bars() as progress:
        return quantize(*run, progress=progress)


def _changes(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given as flags, by dotted path."""
    changes = {}
    for name, value in values.items():
        if params.given(name):
            changes[_PATHS[name]] = _model_settings(value) if name == "model_settings" else value
    return changes


def _model_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not path:
            raise EdgefelError(f"--model-set {pair!r}: write NAME=VALUE, e.g. head.anchors_per_class=4")
        *sections, name = path.split(".")
        target = nested
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise EdgefelError(
                    f"--model-set {pair!r}: {section} is given a value of its own too; leave one out"
                )
        try:
            target[name] = parse_yaml(text, name)
        except EdgefelError:
            raise EdgefelError(f"--model-set {pair!r}: the value is not valid YAML") from None
    return nested


def _report(result: Any) -> None:
    from edgefel.training.run_folder import LEFT_OUT_NAME, SKIPPED_NAME

    if result.left_out is not None:
        click.echo(f"{result.left_out}; all are named in {result.run / LEFT_OUT_NAME}", err=True)
    if result.skipped:
        count, first = counted(len(result.skipped), "unreadable image"), first_names(result.skipped, 3)
        click.echo(f"skipped {count}: {first}; all with their reasons: {result.run / SKIPPED_NAME}", err=True)
    if result.interrupted:
        return
    score = "" if result.best is None else f", best validation score {result.best:.4f}"
    early = " (stopped early)" if result.stopped_early else ""
    click.echo(
        f"{result.run}: {counted(result.step, 'step')}, {counted(result.epoch, 'epoch')}{early}{score}"
    )
