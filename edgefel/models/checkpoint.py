"""Model checkpoints: a folder with `model.safetensors` (weights) and `model.json` (everything else).

Nothing is ever unpickled. A checkpoint may hold a part of a model (an imported backbone); such a one can
start a training run but cannot be evaluated or exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgefel import __version__
from edgefel.documents import check_shape, read_json
from edgefel.errors import EdgefelError
from edgefel.files import atomic_folder, write_json
from edgefel.inputs import check_regular
from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel

FORMAT = "edgefel-checkpoint"
VERSION = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
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
        EdgefelError: the folder is not empty, or the number of labels is not the number of classes.
    """
    if len(labels) != model.config.num_classes:
        raise EdgefelError(
            f"{folder}: {len(labels)} labels for a model of {model.config.num_classes} classes"
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
    weights = _read_weights(folder)
    _check_weights(folder, weights, model.state_dict())
    model.load_state_dict(weights, assign=True)
    labels = tuple(description["labels"])
    if len(labels) != config.num_classes:
        raise EdgefelError(f"{folder}: {len(labels)} labels for {config.num_classes} classes")
    return Checkpoint(
        model.eval(), config, labels, description["preprocessing"], description.get("extra", {}), folder
    )


def initialize_from(model: nn.Module, path: str | Path) -> list[str]:
    """Copies the weights of a checkpoint, or of a part of one, into `model`, for the start of a training run.

    Entries whose shape depends on the number of classes or on the head may differ: the whole `head` is
    left as it is if its shapes do not all fit. Everything else must fit.

    Returns:
        The names of the entries that were copied.

    Raises:
        EdgefelError: the checkpoint belongs to another architecture (lists the first differences).
    """
    folder = resolve_checkpoint(path)
    _read_description(folder)
    weights = _read_weights(folder)
    own = model.state_dict()
    head = {key for key in weights if key.startswith("head.")}
    if any(key not in own or own[key].shape != weights[key].shape for key in head):
        weights = {key: value for key, value in weights.items() if key not in head}
    wrong = [key for key in weights if key not in own or own[key].shape != weights[key].shape]
    if wrong or not weights:
        listed = ", ".join(wrong[:5]) or "nothing"
        raise EdgefelError(
            f"{folder}: does not fit this model; entries that differ: {listed} ({len(wrong)} in all)"
        )
    model.load_state_dict(weights, strict=False)
    return sorted(weights)


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


def _write(folder: Path, weights: Mapping[str, Tensor], description: dict[str, Any]) -> None:
    with atomic_folder(folder) as temporary:
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in weights.items()},
            temporary / WEIGHTS_FILE,
        )
        header = {"format": FORMAT, "version": VERSION, "edgefel": __version__}
        write_json(temporary / DESCRIPTION_FILE, header | description)


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
    return weights


def _check_weights(folder: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key}" for key in expected if key not in weights]
    problems += [f"unknown {key}" for key in weights if key not in expected]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        listed = "; ".join(problems[:5])
        raise EdgefelError(
            f"{folder}: weights do not fit their configuration ({len(problems)} problems): {listed}"
        )
