"""`train` starts a run, `resume` continues one bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import Checkpoint, Initialization, load_checkpoint
from edgefel.training.config import FROM_UNIFORM, FROM_VOTES, TrainConfig, settings
from edgefel.training.data import CopiesLeftOut, left_out_before, open_data
from edgefel.training.distillation import TEACHER_NAME, check_same_teacher, find_teacher
from edgefel.training.distributed import create_fabric, ending_together
from edgefel.training.model import Student, make_model, run_preprocessing
from edgefel.training.run_folder import (
    LEFT_OUT_NAME,
    ORIGINAL_NAME,
    PRIOR_NAME,
    RunFolder,
    TrainingState,
    check_output,
    restore_training,
)
from edgefel.training.trainer import Trainer, TrainResult

# config, the network before, the checkpoint to resume from or None, device -> what learns
Quantize = Callable[[TrainConfig, Checkpoint, Checkpoint | None, torch.device], Student]


def train(
    config: TrainConfig, output: str | Path, *, quiet: bool = False, quantize: Quantize | None = None
) -> TrainResult:
    """Trains a model into the new folder `output`; see `run_folder` for what it holds.

    quantize: `edgefel.export.qat.student.quantize`, which a configuration with `qat` needs.

    Raises EdgefelError, before anything is written, for an output folder in use, unusable data, an unknown
    model, a class count that does not match, or a device that is not available.
    """
    run = RunFolder(Path(output))
    check_output(run.path)
    with run.alone():
        check_output(run.path)
        return _run(config.absolute(), run, quiet, quantize)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    quiet: bool = False,
    quantize: Quantize | None = None,
) -> TrainResult:
    """Continues a run from its last checkpoint, or from the start if it was killed before the first.

    `changes` maps dotted names to values; only settings that do not alter what is learned may change, and the places of
    what the run folder does not hold yet (`init_from`, `teacher`, a prior file). quantize: as for `train`.
    """
    folder = RunFolder(Path(run))
    config = folder.config()
    changes = changes or {}
    allowed = [path for path, _, limits in settings() if limits.resumable]
    allowed += _places(folder, config, changes)
    if fixed := sorted(set(changes) - set(allowed)):
        raise EdgefelError(
            f"{run}: {', '.join(fixed)} cannot change when a run is resumed; these can: {', '.join(allowed)}"
        )
    with folder.alone():
        now = config.replaced(changes).absolute()
        left_out = left_out_before(folder.path / LEFT_OUT_NAME, config.data, now.data)
        return _run(now, folder, quiet, quantize, resuming=True, left_out=left_out)


def _places(run: RunFolder, config: TrainConfig, changes: Mapping[str, Any]) -> list[str]:
    """The settings that name what the run still needs from elsewhere: it may lie somewhere else on this machine.

    Raises EdgefelError for another teacher than that whose probabilities the run folder holds.
    """
    places = []
    if config.init_from and not run.has_checkpoint():
        places.append("init_from")
    whole = changes.get("loss.prior") in (FROM_UNIFORM, FROM_VOTES)  # no file, but another prior
    if config.loss.prior_is_file and not whole and not (run.path / PRIOR_NAME).is_file():
        places.append("loss.prior")
    if config.qat and not (run.path / ORIGINAL_NAME).is_dir():
        places.append("qat")
    if config.teacher:
        if changes.get("teacher") and (run.path / TEACHER_NAME).is_file():
            check_same_teacher(run.path, changes["teacher"])
        places.append("teacher")
    return places


def _run(
    config: TrainConfig,
    run: RunFolder,
    quiet: bool,
    quantize: Quantize | None,
    resuming: bool = False,
    left_out: CopiesLeftOut | None = None,
) -> TrainResult:
    with torch.random.fork_rng(devices=[]):
        original = _original(config, run)
        if original is None:
            preprocessing = run_preprocessing(config, run.last() if resuming else None)
        else:
            preprocessing = Preprocessing.from_dict(original.preprocessing)
            config = replace(config, model=original.config.name)
        fabric = create_fabric(config.compute)
        state, tensors, before = TrainingState(), dict[str, Tensor](), dict[str, Any]()
        starts: list[Initialization] = []
        source, checkpoint = config, None
        if resuming and (prior := run.path / PRIOR_NAME).is_file():
            source = config.replaced({"loss.prior": str(prior)})
        if resuming and run.has_checkpoint():
            checkpoint, state, tensors = run.load_last()
            before = checkpoint.extra.get("training", {})
        known = checkpoint or original
        labels = None if known is None else known.labels
        data = open_data(source, preprocessing, labels, left_out=left_out, quiet=quiet)
        model = make_model(config, data.labels, starts) if known is None else known.model
        if config.patience and data.val is None:
            raise EdgefelError(
                f"patience is {config.patience}, but {config.data} has no split val, by which to judge; divide it "
                f"with: edgefel data prepare {config.data} -o OUT --splits 0.8,0.1,0.1"
            )
        if data.votes is not None:  # recorded, so that a resumed run uses the same file
            config = replace(config, votes=data.votes.file)
        preprocessing = data.train.preprocessing
        teacher = find_teacher(config, run.path, data)
        with ending_together():
            fabric.launch()
        steps = data.steps_per_epoch(config.batch_size, fabric.world_size)
        student = None
        if original is not None:
            if quantize is None or fabric.world_size > 1:
                raise EdgefelError("qat: trains in one process, started by edgefel train; use --devices 1")
            student = quantize(config, original, checkpoint, fabric.device)
            model = student.model.model
        trainer = Trainer(
            config, run, fabric, data, preprocessing, model, state, steps, quiet, teacher, student
        )
        restore_training(trainer.supervised, trainer.updater, tensors)
        trainer.announce(starts, before)
        return trainer.fit(resuming)


def _original(config: TrainConfig, run: RunFolder) -> Checkpoint | None:
    """The network before quantization-aware training, from the run folder if it is there; None for other trainings."""
    if not config.qat:
        return None
    kept = run.path / ORIGINAL_NAME
    original = load_checkpoint(kept if kept.is_dir() else config.qat)
    if config.model not in (TrainConfig.model, original.config.name):
        raise EdgefelError(
            f"qat: {config.qat} is {original.config.name}, not {config.model}; leave out --model"
        )
    return original
