"""The folder of a run: config.yaml, metrics.csv, tb/, checkpoints/step-NNNNNN/, last.json, best.json, skipped.json,
left-out.json where training leaves out images that have a copy in val or test, and what a resumed run would otherwise
need from elsewhere: prior.csv and teacher.safetensors.

A checkpoint folder appears whole (written aside, then renamed), and last.json and best.json are replaced
only after it. Whenever the process is killed, last.json names a complete checkpoint. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_fields, check_shape, read_json
from edgefel.files.read import check_regular
from edgefel.files.write import LOCK_NAME, atomic_folder, sole_user, write_json, write_text
from edgefel.models.checkpoint import (
    WEIGHTS_FILE,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_tensors,
)
from edgefel.models.network import FacialExpressionModel
from edgefel.training.config import TrainConfig, dump_config, load_config
from edgefel.training.distributed import is_first_process
from edgefel.training.model import SupervisedModel

SKIPPED_NAME = "skipped.json"  # by split, the images that could not be read, each with the reason
PRIOR_NAME = "prior.csv"  # the prior, if it was read from a file
ORIGINAL_NAME = "original"  # the checkpoint that quantization-aware training started from
LEFT_OUT_NAME = "left-out.json"  # the images that --without-copies leaves out of training, by kind of copy
_MODEL = "model."
_OPTIMIZER_FILE = "training.safetensors"
_STATE_FILE = "training.json"
_NEW_ENTRIES = frozenset(
    {"best_epoch", "lowest_loss", "since", "waited"}
)  # which runs of earlier versions lack


@dataclass
class TrainingState:
    """The position of a run. Random generators are keyed by these numbers, so their state is not stored.

    step: optimizer steps from the start; epoch_step: those of the current epoch; window: the sums since the last line
    of metrics.csv; seconds: training time so far. best, best_epoch: best validation score, and when it was reached;
    waited: validations since; lowest_loss: the lowest mean classification loss between two validations; since: the sums
    of those terms that are reported since the last validation.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    lowest_loss: float | None = None
    finished: bool = False
    window: list[float] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    precision: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run."""

    path: Path

    def alone(self) -> AbstractContextManager[None]:
        """Makes the folder and locks it against other runs; of the processes of one run, the first does.

        Raises EdgefelError if another process is training there.
        """
        busy = f"{self.path}: another process is training there; wait for it, or choose another folder"
        return sole_user(self.path, busy) if is_first_process() else nullcontext()

    def create(self, config: TrainConfig) -> None:
        """Makes the folder and stores the resolved configuration."""
        write_text(self.path / "config.yaml", dump_config(config))

    def config(self) -> TrainConfig:
        """The stored configuration; raises EdgefelError if this is not a run."""
        file = self.path / "config.yaml"
        if not file.is_file():
            raise EdgefelError(
                f"{self.path}: not a training run (no config.yaml); give the folder that -o named, or start "
                "a run with: edgefel train --data DIR -o RUN"
            )
        return load_config(file)

    def save(
        self,
        supervised: SupervisedModel,
        average: FacialExpressionModel | None,
        optimizer: torch.optim.Optimizer,
        state: TrainingState,
        description: Mapping[str, Any],
        *,
        best: bool,
        keep: int,
    ) -> Path:
        """Writes a checkpoint of this step, points last.json (and best.json) at it, removes older ones.

        average: the weights to keep, if they are not those that learn.
        description: labels, preprocessing, framing and extra of `save_checkpoint`.
        """
        name = f"checkpoints/step-{state.step:06d}"
        with atomic_folder(self.path / name, replace=True) as folder:
            save_checkpoint(folder, average or supervised.model, **description)
            tensors = training_tensors(supervised, optimizer, averaged=average is not None)
            save_tensors(tensors, folder / _OPTIMIZER_FILE)
            write_json(folder / _STATE_FILE, dataclasses.asdict(state))
        pointer = {"checkpoint": name, "step": state.step, "epoch": state.epoch}
        write_json(self.path / "last.json", pointer)
        if best:
            write_json(self.path / "best.json", pointer | {"best": state.best})
        self.prune(keep)
        return self.path / name

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return (self.path / "last.json").is_file()

    def last(self) -> Path | None:
        """The folder of the last checkpoint, None before the first."""
        return self.path / self._target("last.json") if self.has_checkpoint() else None

    def load_last(self) -> tuple[Checkpoint, TrainingState, dict[str, Tensor]]:
        """The last checkpoint: model, state, optimizer tensors. Raises EdgefelError if it is damaged."""
        folder = self.path / self._target("last.json")
        state_file, optimizer_file = folder / _STATE_FILE, folder / _OPTIMIZER_FILE
        checkpoint = load_checkpoint(folder)
        values = read_json(state_file, dict)
        known = {item.name for item in dataclasses.fields(TrainingState)}
        if missing := sorted(known - _NEW_ENTRIES - set(values)):
            raise EdgefelError(f"{state_file}: lacks {', '.join(missing)}; the run is damaged")
        if unknown := sorted(set(values) - known):
            raise EdgefelError(
                f"{state_file}: unknown entries {', '.join(unknown)}; continue the run with the edgefel that wrote it"
            )
        values = {"best_epoch": values["epoch"]} | values
        check_fields(values, TrainingState, str(state_file))
        check_shape(values["window"], [float], f"{state_file}: window")
        check_shape(list(values.get("since", {}).values()), [float], f"{state_file}: since")
        try:
            check_regular(optimizer_file)
            tensors: dict[str, Tensor] = load_file(optimizer_file)
        except (OSError, SafetensorError) as error:
            raise EdgefelError(f"{optimizer_file}: cannot be read ({error})") from None
        if any(
            value.dtype == torch.float64 for value in tensors.values()
        ):  # which networks are not loaded in
            checkpoint.model.double().load_state_dict(load_file(folder / WEIGHTS_FILE))
        return checkpoint, TrainingState(**values), tensors

    def prune(self, keep: int) -> None:
        """Removes what a killed run left unfinished or beyond last.json; keeps the last `keep` and the best."""
        last = self._target("last.json") if self.has_checkpoint() else ""
        best = self._target("best.json") if (self.path / "best.json").is_file() else ""
        folders = [
            folder
            for folder in (self.path / "checkpoints").glob("step-*")
            if folder.name[5:].isdecimal() and folder.is_dir()  # a person may keep a copy beside them
        ]
        folders.sort(key=lambda folder: int(folder.name[5:]))
        names = [f"checkpoints/{folder.name}" for folder in folders]
        past = names[: names.index(last) + 1] if last in names else []
        wanted = {last, best, *past[-keep:]}
        for folder, name in zip(folders, names, strict=True):
            if name not in wanted:
                shutil.rmtree(folder)
        for leftover in (self.path / "checkpoints").glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _target(self, pointer: str) -> str:
        return str(read_json(self.path / pointer, {"checkpoint": str})["checkpoint"])


def check_output(path: Path) -> None:
    """Raises EdgefelError unless `path` is free for a new run."""
    if path.exists() and not path.is_dir():
        raise EdgefelError(f"{path}: exists and is not a folder; choose another output folder")
    # a process that was killed early leaves only the lock
    if not path.is_dir() or all(entry.name == LOCK_NAME for entry in path.iterdir()):
        return
    if (path / "config.yaml").is_file():
        raise EdgefelError(
            f"{path}: holds a run already; continue it with: edgefel train --resume {path}, "
            "or choose another folder"
        )
    raise EdgefelError(f"{path}: the output folder is not empty; choose another one")


def training_tensors(
    supervised: SupervisedModel, optimizer: torch.optim.Optimizer, *, averaged: bool = False
) -> dict[str, Tensor]:
    """What a model checkpoint lacks, as CPU tensors: optimizer state by "parameter name/entry", and by name what is not
    of the model (auxiliary classifier, ranges), or all weights and statistics if the checkpoint holds their average."""
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in supervised.state_dict().items()
        if averaged or not name.startswith(_MODEL)
    }
    for name, parameter in supervised.named_parameters():
        for entry, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{entry}"] = value.detach().cpu().contiguous()
    return tensors


def restore_training(
    supervised: SupervisedModel, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Restores `training_tensors`. Raises EdgefelError for entries of parameters that the model lacks."""
    parameters, weights = dict(supervised.named_parameters()), supervised.state_dict()
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/") if "/" in key else (key, "", "")
        if name not in (parameters if entry else weights):
            raise EdgefelError(
                f"{_OPTIMIZER_FILE}: state of an unknown parameter {name!r}; the run is damaged"
            )
        if not entry:
            weights[name].copy_(value)
            continue
        parameter = parameters[name]
        # Adam keeps its step count on the CPU whatever the device
        place = value if entry == "step" else value.to(parameter.device)
        optimizer.state[parameter][entry] = place
