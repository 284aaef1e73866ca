"""Model checkpoints: a folder with `model.safetensors` (weights) and `model.json` (everything else).

Nothing is ever unpickled. A checkpoint may hold a part of a model (an imported backbone); such a one can
start a training run but cannot be evaluated or exported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgefel import __version__
from edgefel.data.labels import LabelMatch, check_labels, match_labels
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.read import check_regular
from edgefel.files.write import atomic_folder, write_json
from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.text import counted

FORMAT = "edgefel-checkpoint"
VERSION = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
_HEAD = "head."
_SHAPE = {"config": dict, "labels": [str], "preprocessing": dict, "extra?": dict}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `model` is in evaluation mode; `labels` are in the order of its outputs."""

    model: FacialExpressionModel
    config: ModelConfig
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    extra: dict[str, Any]
    path: Path


def save_checkpoint(
    folder: str | Path,
    model: FacialExpressionModel,
    labels: Sequence[str],
    preprocessing: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes a checkpoint folder atomically.

    Args:
        folder: must not exist, or be empty.
        labels: one per class, in the order of the outputs.
        preprocessing: `Preprocessing.to_dict()` of what the model was trained with.
        extra: further JSON data, e.g. metrics and training settings.

    Raises:
        EdgefelError: the folder is not empty, the number of labels is not the number of classes, or one of them
            cannot stand (`edgefel.data.labels.check_labels`).
    """
    labels = check_labels(labels, str(folder))
    if len(labels) != model.config.num_classes:
        raise EdgefelError(
            f"{folder}: {counted(len(labels), 'label')} for a model of "
            f"{counted(model.config.num_classes, 'class', 'classes')}"
        )
    description = {
        "config": model.config.to_dict(),
        "labels": list(labels),
        "preprocessing": dict(preprocessing),
        "extra": dict(extra or {}),
    }
    _write(Path(folder), model.state_dict(), description)


def save_part(folder: str | Path, part: str, weights: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
    """Writes weights of one part of a model, e.g. part = "encoder.image_stream", keys with that prefix."""
    _write(Path(folder), weights, {"part": part, "extra": dict(extra)})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Loads a checkpoint folder, or the best checkpoint of a training run.

    Raises:
        EdgefelError: missing, truncated or inconsistent files; says which and what to do.
    """
    folder = resolve_checkpoint(path)
    description = _read_description(folder)
    if "part" in description:
        raise EdgefelError(
            f"{folder}: holds only the part '{description['part']}' of a model; "
            f"train with: edgefel train --init-from {folder}"
        )
    for key in ("config", "labels", "preprocessing"):
        if key not in description:
            raise EdgefelError(f"{folder / DESCRIPTION_FILE}: no entry '{key}'; the checkpoint is incomplete")
    check_shape(description, _SHAPE, str(folder / DESCRIPTION_FILE))
    try:
        config = ModelConfig.from_dict(description["config"])
        with torch.device("meta"):
            model = FacialExpressionModel(config)
    except EdgefelError as error:
        raise EdgefelError(f"{folder / DESCRIPTION_FILE}: {error}") from None
    # sizes that fit each other nowhere, each of them possible
    except (RuntimeError, ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise EdgefelError(
            f"{folder / DESCRIPTION_FILE}: its config describes no network ({' '.join(str(error).split())[:200]})"
        ) from None
    expected = model.state_dict()
    weights = _read_weights(folder)
    _check_weights(folder, weights, expected)
    # others may have saved the file in half precision; the network computes in its own
    weights = {key: value.to(expected[key].dtype) for key, value in weights.items()}
    model.load_state_dict(weights, assign=True)
    labels = check_labels(description["labels"], str(folder / DESCRIPTION_FILE))
    if len(labels) != config.num_classes:
        raise EdgefelError(
            f"{folder}: {counted(len(labels), 'label')} for {counted(config.num_classes, 'class', 'classes')}"
        )
    return Checkpoint(
        model.eval(), config, labels, description["preprocessing"], description.get("extra", {}), folder
    )


@dataclass(frozen=True)
class Initialization:
    """What `initialize_from` took. entries: names in the model's state.

    match: the model's classes and the checkpoint's; None for a part of a model, which has none. taken: parts of the
    head whose rows follow their classes' names. anew: parts of the head that keep what they were initialized with.
    unused: parts of the checkpoint's head that this one lacks.
    """

    path: Path
    entries: tuple[str, ...]
    match: LabelMatch | None
    taken: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing of the head starts anew."""
        return self.match is None or not (self.anew or self.match.only_model)

    def describe(self) -> str:
        """One line: which classes and parts of the head were taken, and which start anew."""
        if self.match is None:
            return f"{self.path}: {len(self.entries)} entries taken; the head starts anew"
        if not self.taken:
            return f"{self.path}: the encoder is taken; the head has another form there, so all of it starts anew"
        parts = [f"{self.path}: classes taken by name: {', '.join(self.match.labels) or 'none'}"]
        if self.match.only_model:
            parts.append(f"classes that start anew: {', '.join(self.match.only_model)}")
        if self.match.only_other:
            parts.append(f"classes left behind: {', '.join(self.match.only_other)}")
        if self.anew:
            parts.append(f"parts of the head that start anew: {', '.join(self.anew)}")
        if self.unused:
            parts.append(f"left behind: {', '.join(self.unused)}")
        return "; ".join(parts)


def initialize_from(model: FacialExpressionModel, path: str | Path, labels: Sequence[str]) -> Initialization:
    """Copies the weights of a checkpoint, or of a part of one, into `model`, for the start of a training run.

    labels: names of the model's classes. What has a row for each class (`class_axes`) takes the rows of the classes
    that the checkpoint has too, by name and whatever their order there; the others keep what they were initialized
    with. The head's parts (`classifier`, `anchors`, `attentive`, or `linear`) are taken or left each as a whole: one
    that has another shape here, but for its classes, is left. Everything but the head must fit.

    Raises:
        EdgefelError: the checkpoint belongs to another architecture (lists the first differences), or its labels are
            not as many as its classes.
    """
    folder = resolve_checkpoint(path)
    description = _read_description(folder)
    weights = _read_weights(folder)
    own = model.state_dict()
    body = {key: value for key, value in weights.items() if not key.startswith(_HEAD)}
    wrong = [key for key in body if key not in own or own[key].shape != body[key].shape]
    if wrong or not weights:
        listed = ", ".join(wrong[:5]) or "nothing"
        raise EdgefelError(
            f"{folder}: does not fit this model; entries that differ: {listed} ({len(wrong)} in all)"
        )
    if "labels" not in description:
        model.load_state_dict(body, strict=False)
        return Initialization(folder, tuple(sorted(body)), None)
    match = match_labels(labels, check_labels(description["labels"], str(folder / DESCRIPTION_FILE)))
    axes = model.class_axes()
    taken, anew = _parts_that_fit(own, weights, axes)
    head = {key: value for key, value in weights.items() if _part(key) in taken}
    for key in axes.keys() & head.keys():
        head[key] = _rows_by_name(folder, key, own[key], head[key], axes[key], match)
    model.load_state_dict(body | head, strict=False)
    unused = tuple(
        dict.fromkeys(
            part for part in map(_part, weights) if part is not None and part not in (*taken, *anew)
        )
    )
    return Initialization(folder, tuple(sorted({*body, *head})), match, taken, anew, unused)


def _part(key: str) -> str | None:
    """The part of the head that an entry of a state belongs to; None outside the head."""
    return key.split(".")[1] if key.startswith(_HEAD) else None


def _parts_that_fit(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], axes: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts of the model's head that have the same entries in `weights`, but for their classes, and the others.

    Where the reduction in front of them all does not fit, no part does: they would see another embedding.
    """

    def shapes(state: Mapping[str, Tensor], part: str) -> dict[str, list[int]]:
        found = {}
        for key, value in state.items():
            if _part(key) == part:
                found[key] = [size for axis, size in enumerate(value.shape) if axis != axes.get(key)]
        return found

    parts = tuple(dict.fromkeys(part for part in map(_part, own) if part is not None))
    fitting = [part for part in parts if shapes(own, part) == shapes(weights, part)]
    if shapes(own, "reduce") != shapes(weights, "reduce"):
        fitting = []
    return tuple(fitting), tuple(part for part in parts if part not in fitting)


def _rows_by_name(folder: Path, key: str, own: Tensor, there: Tensor, axis: int, match: LabelMatch) -> Tensor:
    """`own` with the rows of the common classes from `there`."""
    if there.shape[axis] != len(match.other):
        raise EdgefelError(
            f"{folder}: {key} has {counted(there.shape[axis], 'class', 'classes')}, but there are "
            f"{counted(len(match.other), 'label')}; "
            "use a checkpoint as edgefel wrote it"
        )
    rows = there.to(own.dtype).index_select(axis, torch.tensor(match.numbers, dtype=torch.int64))
    return own.clone().index_copy_(axis, torch.tensor(match.columns, dtype=torch.int64), rows)


def read_preprocessing(path: str | Path) -> dict[str, Any] | None:
    """What the weights of a checkpoint or run folder are used to, as `Preprocessing.to_dict()`; None for a part."""
    preprocessing: dict[str, Any] | None = _read_description(resolve_checkpoint(path)).get("preprocessing")
    return preprocessing


def resolve_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder that `path` means: itself, or the best (else last) one of a run folder."""
    path = Path(path)
    if not path.exists():
        raise EdgefelError(
            f"{path}: no such checkpoint; give a checkpoint folder or a run folder of edgefel train"
        )
    if (path / DESCRIPTION_FILE).is_file():
        return path
    for pointer in ("best.json", "last.json"):
        if (path / pointer).is_file():
            target = read_json(path / pointer, {"checkpoint": str})["checkpoint"]
            if not (path / target / DESCRIPTION_FILE).is_file():
                raise EdgefelError(f"{path / pointer}: points to '{target}', which is not a checkpoint")
            return path / target
    if path.is_file():
        raise EdgefelError(
            f"{path}: is a file; give a checkpoint folder, "
            "or turn a published file into one with: edgefel import"
        )
    raise EdgefelError(
        f"{path}: not a checkpoint: it has neither {DESCRIPTION_FILE} nor best.json nor last.json"
    )


def check_values(where: str, weights: Mapping[str, Tensor], names: Mapping[str, str] | None = None) -> None:
    """Raises EdgefelError for the first entry with NaN, an infinite value, or a negative variance.

    where: the file. names: what the file calls the entries, if not as we do.
    """
    for key, value in weights.items():
        if not value.is_floating_point():
            continue
        wrong = value.numel() - int(value.isfinite().sum())
        what = "NaN or infinite values"
        if not wrong and key.endswith("running_var"):
            wrong, what = int((value < 0).sum()), "negative variances"
        if wrong:
            name = (names or {}).get(key, key)
            raise EdgefelError(
                f"{where}: {name} has {what} ({wrong} of {value.numel()}); its training diverged or the file is "
                "damaged: take an earlier checkpoint, or fetch it again"
            )


def _write(folder: Path, weights: Mapping[str, Tensor], description: dict[str, Any]) -> None:
    with atomic_folder(folder) as temporary:
        save_tensors(weights, temporary / WEIGHTS_FILE)
        header = {"format": FORMAT, "version": VERSION, "edgefel": __version__}
        write_json(temporary / DESCRIPTION_FILE, header | description)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file. Raises OSError."""
    try:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    except SafetensorError as error:
        # its own words hide which error of the system it was
        if (number := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION_FILE
    description = read_json(file)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise EdgefelError(f"{file}: not an edgefel checkpoint")
    if description.get("version") != VERSION:
        raise EdgefelError(
            f"{file}: checkpoint version {description.get('version')}, this edgefel reads {VERSION}; "
            "use the edgefel that wrote it"
        )
    extra = description.get("extra")
    source = extra.get("source") if isinstance(extra, dict) else None
    # imports of whole networks record their notes since they keep the release's preprocessing
    if isinstance(source, dict) and source.get("layout") in ("poster-v2", "apvit") and "notes" not in source:
        raise EdgefelError(
            f"{file}: was imported by an edgefel that cropped images which this release's weights are tested on whole; "
            "import the published file again"
        )
    return description


def _read_weights(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS_FILE
    try:
        check_regular(file)
        weights: dict[str, Tensor] = load_file(file)
    except FileNotFoundError:
        raise EdgefelError(f"{file}: missing; copy the whole checkpoint folder") from None
    except (SafetensorError, OSError) as error:
        raise EdgefelError(f"{file}: cannot be read, truncated or not safetensors ({error})") from None
    check_values(str(file), weights)
    return weights


def _check_weights(folder: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key}" for key in expected if key not in weights]
    problems += [f"unknown {key}" for key in weights if key not in expected]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    problems += [
        f"{key} holds {weights[key].dtype}, not {value.dtype}"
        for key, value in expected.items()
        if key in weights and weights[key].is_floating_point() != value.is_floating_point()
    ]
    if problems:
        listed = "; ".join(problems[:5])
        raise EdgefelError(
            f"{folder}: weights do not fit their configuration ({counted(len(problems), 'problem')}): {listed}"
        )
