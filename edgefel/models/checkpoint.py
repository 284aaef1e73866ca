"""Model checkpoints: a folder with `model.safetensors` (weights) and `model.json` (everything else).

Nothing is unpickled. A checkpoint of only a part of a model (an imported backbone) can start a training run but cannot
be evaluated or exported.
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
from edgefel.data.framing import Framing
from edgefel.data.labels import LabelMatch, check_labels, match_labels
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.read import check_regular
from edgefel.files.write import atomic_folder, write_json
from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.runtime.manifest import is_bundle
from edgefel.text import counted, one_line

FORMAT = "edgefel-checkpoint"
VERSION = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
_HEAD = "head."
_SHAPE = {"config": dict, "labels": [str], "preprocessing": dict, "framing?": dict, "extra?": dict}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `model` is in evaluation mode; `labels` are in output order.

    framing: of the faces that it was trained on; None where it is not known.
    """

    model: FacialExpressionModel
    config: ModelConfig
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    extra: dict[str, Any]
    path: Path
    framing: Framing | None = None


def save_checkpoint(
    folder: str | Path,
    model: FacialExpressionModel,
    labels: Sequence[str],
    preprocessing: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    framing: Framing | None = None,
) -> None:
    """Writes a checkpoint folder, which must not exist or be empty, atomically.

    labels: one per class, in output order. preprocessing: `Preprocessing.to_dict()` of the training. extra: further
    JSON data, e.g. metrics and training settings. framing: of the training's faces, if known.
    Raises EdgefelError where the folder is not empty, the number of labels is not the number of classes, or a label is
    invalid (`edgefel.data.labels.check_labels`).
    """
    description = {
        "config": model.config.to_dict(),
        "labels": list(_one_per_class(labels, model.config, str(folder))),
        "preprocessing": dict(preprocessing),
        **({} if framing is None else {"framing": framing.to_dict()}),
        "extra": dict(extra or {}),
    }
    _write(Path(folder), model.state_dict(), description)


def save_part(folder: str | Path, part: str, weights: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
    """Writes weights of one part of a model, e.g. part = "encoder.image_stream", keys with that prefix."""
    _write(Path(folder), weights, {"part": part, "extra": dict(extra)})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Loads a checkpoint folder, or the best checkpoint of a training run.

    Raises EdgefelError, naming the file and the remedy, for missing, truncated or inconsistent files.
    """
    folder = resolve_checkpoint(path)
    file = folder / DESCRIPTION_FILE
    description = _read_description(folder)
    if "part" in description:
        raise EdgefelError(
            f"{folder}: holds only the part '{description['part']}' of a model; "
            f"train with: edgefel train --init-from {folder}"
        )
    check_shape(description, _SHAPE, str(file))
    try:
        config = ModelConfig.from_dict(description["config"])
        with torch.device("meta"):
            model = FacialExpressionModel(config)
    except EdgefelError as error:
        raise EdgefelError(f"{file}: {error}") from None
    # sizes that are possible alone but not together
    except (RuntimeError, ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        reason = one_line(error)[:200]
        raise EdgefelError(f"{file}: its config describes no network ({reason})") from None
    expected = model.state_dict()
    weights = _read_weights(folder)
    _check_weights(folder, weights, expected)
    # the file may be in half precision; the network computes in its own type
    weights = {key: value.to(expected[key].dtype) for key, value in weights.items()}
    model.load_state_dict(weights, assign=True)
    labels = _one_per_class(description["labels"], config, str(file))
    preprocessing, extra = description["preprocessing"], description.get("extra", {})
    framing = _framing(description, file)
    return Checkpoint(model.eval(), config, labels, preprocessing, extra, folder, framing)


def _framing(description: Mapping[str, Any], file: Path) -> Framing | None:
    values = description.get("framing")
    try:
        return None if values is None else Framing.from_dict(values)
    except EdgefelError as error:
        raise EdgefelError(f"{file}: {error}") from None


def _one_per_class(labels: object, config: ModelConfig, where: str) -> tuple[str, ...]:
    checked = check_labels(labels, where)
    if len(checked) != config.num_classes:
        classes = counted(config.num_classes, "class", "classes")
        raise EdgefelError(f"{where}: {counted(len(checked), 'label')} for a model of {classes}")
    return checked


@dataclass(frozen=True)
class Initialization:
    """What `initialize_from` took. entries: names in the model's state.

    match: the model's classes and the checkpoint's; None for a part of a model, which has none. taken: parts of the
    head whose rows were copied by class name. anew: parts of the head that keep their initialization. unused: parts of
    the checkpoint's head that this one lacks.
    """

    path: Path
    entries: tuple[str, ...]
    match: LabelMatch | None
    taken: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether no part of the head starts anew."""
        return self.match is None or not (self.anew or self.match.only_model)

    def describe(self) -> str:
        """One line: which classes and parts of the head were taken, and which start anew."""
        if self.match is None:
            return f"{self.path}: {len(self.entries)} entries taken; the head starts anew"
        if not self.taken:
            return f"{self.path}: the encoder is taken; the head has another form there, so all of it starts anew"
        parts: dict[str, tuple[str, ...]] = {
            f"{self.path}: classes taken by name": self.match.labels or ("none",),
            "classes that start anew": self.match.only_model,
            "classes left behind": self.match.only_other,
            "parts of the head that start anew": self.anew,
            "left behind": self.unused,
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def initialize_from(model: FacialExpressionModel, path: str | Path, labels: Sequence[str]) -> Initialization:
    """Copies the weights of a checkpoint, or of a part of one, into `model`, for the start of a training run.

    labels: names of the model's classes. Entries with one row per class (`class_axes`) take the rows of the classes
    that the checkpoint also has, by name, in any order; the other rows keep their initialization. Each part of the head
    (`classifier`, `anchors`, `attentive`, or `linear`) is taken as a whole, or left if its shape differs in more than
    the classes. Everything but the head must fit: raises EdgefelError, listing the first differences, for another
    architecture, and where the number of the checkpoint's labels is not that of its classes.
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
    unused = tuple(part for part in _parts(weights) if part not in (*taken, *anew))
    return Initialization(folder, tuple(sorted({*body, *head})), match, taken, anew, unused)


def _part(key: str) -> str | None:
    """The part of the head that a state entry belongs to; None outside the head."""
    return key.split(".")[1] if key.startswith(_HEAD) else None


def _parts(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """All parts of the head, in order."""
    return tuple(dict.fromkeys(filter(None, map(_part, state))))


def _parts_that_fit(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], axes: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts of the model's head that have the same entries in `weights`, apart from classes, and the other parts.

    If the reduction in front of all parts does not fit, none does: their input would be another embedding.
    """

    def fits(part: str) -> bool:
        first, second = (
            {
                key: [size for axis, size in enumerate(value.shape) if axis != axes.get(key)]
                for key, value in state.items()
                if _part(key) == part
            }
            for state in (own, weights)
        )
        return first == second

    parts = _parts(own)
    fitting = tuple(filter(fits, parts)) if fits("reduce") else ()
    return fitting, tuple(part for part in parts if part not in fitting)


def _rows_by_name(folder: Path, key: str, own: Tensor, there: Tensor, axis: int, match: LabelMatch) -> Tensor:
    """`own` with the rows of the common classes from `there`."""
    if there.shape[axis] != len(match.other):
        raise EdgefelError(
            f"{folder}: {key} has {counted(there.shape[axis], 'class', 'classes')}, but there are "
            f"{counted(len(match.other), 'label')}; use a checkpoint as edgefel wrote it"
        )
    rows = there.to(own.dtype).index_select(axis, torch.tensor(match.numbers, dtype=torch.int64))
    return own.clone().index_copy_(axis, torch.tensor(match.columns, dtype=torch.int64), rows)


def read_preprocessing(path: str | Path) -> dict[str, Any] | None:
    """The preprocessing of a checkpoint or run folder, as `Preprocessing.to_dict()`; None for a part."""
    preprocessing: dict[str, Any] | None = _read_description(resolve_checkpoint(path)).get("preprocessing")
    return preprocessing


def read_framing(path: str | Path) -> Framing | None:
    """The framing of a checkpoint or run folder; None where it is not known."""
    folder = resolve_checkpoint(path)
    return _framing(_read_description(folder), folder / DESCRIPTION_FILE)


def resolve_checkpoint(path: str | Path) -> Path:
    """`path` itself if it is a checkpoint folder, or the best (else last) checkpoint of a run folder."""
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
            f"{path}: is a file; give a checkpoint folder, or turn a published file into one with: edgefel import"
        )
    if is_bundle(path):
        raise EdgefelError(
            f"{path}: is a bundle; turn it into a checkpoint with: edgefel import {path} --data DATA -o CHECKPOINT"
        )
    raise EdgefelError(
        f"{path}: not a checkpoint: it has neither {DESCRIPTION_FILE} nor best.json nor last.json"
    )


def check_values(where: str, weights: Mapping[str, Tensor], names: Mapping[str, str] | None = None) -> None:
    """Raises EdgefelError for the first entry with NaN, an infinite value, or a negative variance.

    where: the file. names: our names of entries -> the file's, where they differ.
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


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file, with the permissions of any other new file. Raises OSError."""
    path.touch()
    mode = path.stat().st_mode  # safetensors leaves a file that its owner alone can read
    try:
        values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(values, path, dict(metadata) if metadata else None)
        path.chmod(mode)
    except SafetensorError as error:
        # SafetensorError hides the system's error number
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
    # imports of whole networks record notes since they keep the release's preprocessing
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
    both = [(key, weights[key], value) for key, value in expected.items() if key in weights]
    problems += [
        f"{key} has shape {tuple(given.shape)}, not {tuple(value.shape)}"
        for key, given, value in both
        if given.shape != value.shape
    ]
    problems += [
        f"{key} holds {given.dtype}, not {value.dtype}"
        for key, given, value in both
        if given.is_floating_point() != value.is_floating_point()
    ]
    if problems:
        listed = "; ".join(problems[:5])
        raise EdgefelError(
            f"{folder}: weights do not fit their configuration ({counted(len(problems), 'problem')}): {listed}"
        )
