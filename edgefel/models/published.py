"""Checkpoints people already have: published files into edgefel's names.

The names are translated by `published_layouts`. Entries that such files hold and networks never use are
dropped; everything else that is missing, unknown or wrongly shaped is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.data.labels import parse_labels
from edgefel.errors import EdgefelError
from edgefel.files import sha256
from edgefel.models.checkpoint import save_checkpoint, save_part
from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.models.pickles import load_tensors
from edgefel.models.published_layouts import LAYOUTS, RULES
from edgefel.models.registry import model_config
from edgefel.runtime.preprocessing import default_preprocessing

_PARTS = {"ir50": "encoder.image_stream", "mobilefacenet": "encoder.landmark_stream"}


@dataclass(frozen=True)
class Imported:
    """What a published file holds.

    model: the whole network in evaluation mode, or None for a backbone.
    part: prefix of `weights` for a backbone, e.g. "encoder.image_stream".
    weights: our names -> tensors.
    unused: published entries that were ignored because the network never uses them.
    """

    model: FacialExpressionModel | None
    part: str | None
    weights: dict[str, Tensor]
    unused: tuple[str, ...]


def import_published(files: Sequence[str | Path], layout: str) -> Imported:
    """Reads published checkpoint files.

    Args:
        files: one file; three for "arbex" (encoder, classifier, anchors; in any order).
        layout: one of LAYOUTS.

    Raises:
        EdgefelError: a file is missing, truncated or holds code; the layout is another one; entries are
            missing, unknown or wrongly shaped (with the list).
    """
    if layout not in LAYOUTS:
        raise EdgefelError(f"unknown layout '{layout}'; known: {', '.join(LAYOUTS)}")
    if layout != "arbex" and len(files) != 1:
        raise EdgefelError(f"layout '{layout}' is one file, got {len(files)}")
    published: dict[str, Tensor] = {}
    for file in files:
        tensors = load_tensors(file)
        repeated = sorted(set(tensors) & set(published))
        if repeated:
            raise EdgefelError(f"{file}: repeats entries of another file: {_listed(repeated)}")
        published |= tensors
    where = ", ".join(str(file) for file in files)
    weights, unused, unknown = _rename(published, layout)
    part = _PARTS.get(layout)
    config = _config(weights, layout)
    with torch.device("meta"):
        model = FacialExpressionModel(config)
    expected = {
        key: value for key, value in model.state_dict().items() if part is None or key.startswith(f"{part}.")
    }
    _refuse_misfits(where, layout, weights, expected, unknown)
    if part is not None:
        return Imported(None, part, weights, unused)
    model.load_state_dict(weights, assign=True)
    return Imported(model.eval(), None, weights, unused)


def import_to_checkpoint(
    files: Sequence[str | Path], layout: str, output: str | Path, labels: str
) -> dict[str, Any]:
    """Reads published files and writes a checkpoint folder: what `edgefel import` does.

    Args:
        labels: see `edgefel.data.labels.parse_labels`; ignored for a backbone.

    Returns:
        A summary: layout, entries, unused, labels.
    """
    imported = import_published(files, layout)
    sources = [{"file": Path(file).name, "sha256": sha256(file)} for file in files]
    extra = {"source": {"layout": layout, "files": sources}}
    names: tuple[str, ...] = ()
    if imported.model is None:
        assert imported.part is not None
        save_part(output, imported.part, imported.weights, extra)
    else:
        config = imported.model.config
        names = parse_labels(labels, config.num_classes)
        preprocessing = default_preprocessing(config.input_size).to_dict()
        save_checkpoint(output, imported.model, names, preprocessing, extra)
    return {
        "layout": layout,
        "output": str(output),
        "entries": len(imported.weights),
        "unused": len(imported.unused),
        "labels": list(names),
    }


def _rename(
    published: Mapping[str, Tensor], layout: str
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    rules, unused_patterns = RULES[layout]
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    unused_compiled = [re.compile(pattern) for pattern in unused_patterns]
    weights: dict[str, Tensor] = {}
    unused: list[str] = []
    unknown: list[str] = []
    for key, value in published.items():
        for pattern, replacement in compiled:
            match = pattern.fullmatch(key)
            if match is not None:
                weights[replacement(match)] = value
                break
        else:
            (unused if any(p.fullmatch(key) for p in unused_compiled) else unknown).append(key)
    return weights, tuple(unused), unknown


def _config(weights: Mapping[str, Tensor], layout: str) -> ModelConfig:
    """The configuration that the shapes of the head tell; the encoder has one published size."""
    if layout in ("poster-v2", "apvit"):
        head = weights.get("head.linear.weight")
        return model_config(layout, num_classes=7 if head is None else max(head.shape[0], 2))
    if layout != "arbex":
        return model_config("arbex")
    linears = [
        weights[key]
        for key in sorted(
            (k for k in weights if re.fullmatch(r"head\.classifier\.\d+\.weight", k)),
            key=lambda k: int(k.split(".")[2]),
        )
        if weights[key].ndim == 2
    ]
    anchors = weights.get("head.anchors")
    return model_config(
        "arbex",
        num_classes=max(linears[-1].shape[0], 2) if linears else 8,
        head={
            "embedding_dim": 768,
            "hidden": tuple(linear.shape[0] for linear in linears[:-1]),
            "norm_first": True,
            "anchors_per_class": anchors.shape[1] if anchors is not None and anchors.ndim == 3 else 1,
            "attentive": False,
        },
    )


def _refuse_misfits(
    where: str,
    layout: str,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    unknown: Sequence[str],
) -> None:
    missing = [key for key in expected if key not in weights]
    surplus = [*unknown, *(key for key in weights if key not in expected)]
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if not (missing or surplus or shapes):
        return
    if len(missing) == len(expected):
        raise EdgefelError(
            f"{where}: nothing in it has a name of the layout '{layout}'; "
            f"try another --layout ({', '.join(LAYOUTS)})"
        )
    found = [("missing", missing), ("unknown", surplus), ("wrong shape", shapes)]
    problems = "; ".join(f"{len(entries)} {kind}: {_listed(entries)}" for kind, entries in found if entries)
    raise EdgefelError(f"{where}: does not fit the layout '{layout}': {problems}")


def _listed(entries: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(entries) - limit} more" if len(entries) > limit else ""
    return ", ".join(entries[:limit]) + more
