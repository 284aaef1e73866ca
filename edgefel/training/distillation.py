"""Distillation (arXiv 1503.02531): the probabilities of a teacher for the training images, computed once per run.

They are stored in the run folder, so that a step costs no more than without a teacher, and a resumed run does not need
the teacher any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgefel.data.labels import LabelMatch, match_labels
from edgefel.data.loading.batches import Batch, ImageSource
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.inference import run_model
from edgefel.files.read import check_regular
from edgefel.files.write import atomic_file, sha256
from edgefel.models.checkpoint import (
    WEIGHTS_FILE,
    Checkpoint,
    load_checkpoint,
    resolve_checkpoint,
    save_tensors,
)
from edgefel.training.config import TrainConfig
from edgefel.training.data import Data
from edgefel.training.distributed import gather_sum
from edgefel.training.log import loading_bar

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TEACHER_NAME = "teacher.safetensors"  # the teacher's probabilities, in the run folder
_BATCH = 64


@dataclass(frozen=True)
class Teacher:
    """A teacher that has yet to label the training images.

    digest: SHA-256 of its weights. match: its classes, and those of the data, all of which it has.
    """

    checkpoint: Checkpoint
    digest: str
    match: LabelMatch

    def label(self, data: Data, fabric: Fabric, workers: int, *, shown: bool) -> Tensor:
        """Probabilities of the training images, un-augmented: float32 [N, C], the same on every rank.

        They are the mean over an image and its mirror image, as the teacher gives them on a device; other classes of
        the teacher are left out. Zeros for an image that cannot be read. Each rank labels a part of the images.
        """
        source, own = data.train, Preprocessing.from_dict(self.checkpoint.preprocessing)
        if source.preprocessing != own:
            source = ImageSource(source.dataset, own, workers=workers, cache_mb=0)
        images, classes = len(source.dataset), len(self.match.model)
        mine = range(fabric.global_rank, images, fabric.world_size)
        model = self.checkpoint.model.to(fabric.device)
        with loading_bar(len(mine), shown=shown, text="labels of the teacher") as advance:
            batches = _mirrored_too(source.readable(mine, _BATCH), advance)
            outputs = run_model(model, batches, own, classes, fabric.device)
        rows = torch.from_numpy(self.match.restrict(outputs.corrected)).float() / 2.0
        table = torch.zeros(images, rows.shape[1])
        table.index_add_(0, torch.from_numpy(outputs.indices), rows)
        return gather_sum(table.to(fabric.device)).cpu()


def agreement(probabilities: Tensor, targets: Tensor) -> float:
    """Share of the images that the teacher has seen whose label is its most likely class.

    probabilities: float32 [N, C]; targets: int64 [N], or float32 [N, C].
    """
    labels = targets.argmax(1) if targets.is_floating_point() else targets
    seen = probabilities.sum(1) > 0
    return float((probabilities.argmax(1) == labels)[seen].float().mean())


def find_teacher(config: TrainConfig, run: Path, data: Data) -> Teacher | Tensor | None:
    """The probabilities in the run folder, else the teacher that `config` names; None without one.

    Raises EdgefelError for a teacher that lacks classes, and for stored probabilities of other images.
    """
    if not config.teacher:
        return None
    if (run / TEACHER_NAME).is_file():
        return _read(run / TEACHER_NAME, data)
    checkpoint = load_checkpoint(config.teacher)
    match = match_labels(checkpoint.labels, data.labels)
    if match.only_other:
        raise EdgefelError(
            f"{config.teacher}: the teacher lacks the classes {', '.join(match.only_other)}; it has "
            f"{', '.join(checkpoint.labels)}; take a teacher that has all classes of the data"
        )
    return Teacher(checkpoint, sha256(checkpoint.path / WEIGHTS_FILE), match)


def labels_of(
    teacher: Teacher | Tensor | None,
    run: Path,
    data: Data,
    config: TrainConfig,
    fabric: Fabric,
    *,
    shown: bool,
) -> Tensor | None:
    """What `find_teacher` found, as targets: float32 [N, C], tempered. None without a teacher; a collective call.

    The first process stores new probabilities in the run folder. shown: with a progress bar.
    """
    if isinstance(teacher, Teacher):
        probabilities = teacher.label(data, fabric, config.compute.workers, shown=shown)
        if fabric.global_rank == 0:
            metadata = {"teacher": teacher.digest, "data": data.fingerprint()}
            with atomic_file(run / TEACHER_NAME) as file:
                save_tensors({"probabilities": probabilities}, file, metadata)
        teacher = probabilities
    return None if teacher is None else tempered(teacher, config.loss.teacher_temperature)


def check_same_teacher(run: Path, path: str) -> None:
    """Raises EdgefelError if the run folder holds the probabilities of another teacher than `path`."""
    digest = sha256(resolve_checkpoint(path) / WEIGHTS_FILE)
    if _metadata(run / TEACHER_NAME).get("teacher") != digest:
        raise EdgefelError(
            f"{path}: not the teacher of this run, whose probabilities are in {run / TEACHER_NAME}; leave out "
            "--teacher, or start a new run"
        )


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """`p^(1/T) / Σ p^(1/T)` of [N, C] float32 rows: softmax(z / T) where p is softmax(z). Rows of zeros stay."""
    rows = probabilities.double()
    seen = rows.sum(1, keepdim=True) > 0
    logits = rows.clamp_min(torch.finfo(torch.float64).tiny).log() / temperature
    return torch.where(seen, logits.softmax(1), 0.0).float()


def _mirrored_too(batches: Iterable[Batch], advance: Callable[[int], None]) -> Iterator[Batch]:
    """Every batch, then its mirror image."""
    for batch in batches:
        yield batch
        yield Batch(batch.pixels.flip(-1), batch.indices)
        advance(len(batch.indices))


def _read(file: Path, data: Data) -> Tensor:
    wrong = f"{file}: holds the teacher's probabilities for other images or labels than {data.train.dataset.root} has"
    if _metadata(file).get("data") != data.fingerprint():
        raise EdgefelError(f"{wrong}; give --data what the run was started with, or start a new run")
    with safe_open(file, "pt") as stored:
        rows: Tensor = stored.get_tensor("probabilities")
    if rows.shape != (len(data.train.dataset), len(data.labels)):
        raise EdgefelError(f"{wrong}; the file is damaged: start a new run")
    return rows


def _metadata(file: Path) -> dict[str, str]:
    try:
        check_regular(file)
        with safe_open(file, "pt") as stored:
            if "probabilities" not in stored.keys():  # noqa: SIM118 (not a mapping)
                raise EdgefelError(f"{file}: holds no probabilities of a teacher; start a new run")
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise EdgefelError(f"{file}: cannot be read ({error}); start a new run") from None
