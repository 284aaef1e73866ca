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

_PARTS = {"conv": "expand", "conv_dw": "depthwise", "project": "project"}
_CONV_PARTS = {"conv": "conv", "bn": "norm", "prelu": "act"}
_MOBILEFACENET_STAGES = {"23": "0", "34": "1", "45": "2", "3": "0", "4": "1", "5": "2"}


def _mobilefacenet_block(match: re.Match[str]) -> str:
    stage, index, block, part, rest = match.groups()
    unit = 0 if index is None else int(index) + 1
    return (
        f"encoder.landmark_stream.stages.{_MOBILEFACENET_STAGES[stage]}.{unit}"
        f".{_DEPTHWISE_PARTS[block]}.{_CONV_PARTS[part]}.{rest}"
    )


def _mobilefacenet_conv(match: re.Match[str]) -> str:
    names = {"conv1": "stem", "conv2_dw": "stem_depthwise", "conv_6_sep": "head"}
    return f"encoder.landmark_stream.{names[match.group(1)]}.{_CONV_PARTS[match.group(2)]}.{match.group(3)}"


def _mobilefacenet_rules(prefix: str) -> list[Rule]:
    return [
        (rf"{prefix}(conv1|conv2_dw|conv_6_sep)\.(conv|bn|prelu)\.(\w+)", _mobilefacenet_conv),
        (
            rf"{prefix}conv_(23|34|45|3|4|5)(?:\.model\.(\d+))?\.(conv|conv_dw|project)\.(conv|bn|prelu)\.(\w+)",
            _mobilefacenet_block,
        ),
    ]


def _ir50_rules(prefix: str) -> list[Rule]:
    return [
        (rf"{prefix}input_layer\.(\d)\.(\w+)", _to("encoder.image_stream.stem.{0}.{1}")),
        (
            rf"{prefix}body([123])\.(\d+)\.res_layer\.(\d)\.(\w+)",
            _to("encoder.image_stream.stages.{0-1}.{1}.residual.{2}.{3}"),
        ),
        (
            rf"{prefix}body([123])\.(\d+)\.shortcut_layer\.(\d)\.(\w+)",
            _to("encoder.image_stream.stages.{0-1}.{1}.shortcut.{2}.{3}"),
        ),
    ]


def _ir50_flat_unit(match: re.Match[str]) -> str:
    """face.evoLVe numbers the units of all four bodies through: 3, 4, 14 and an unused 3."""
    index, branch, layer, rest = int(match.group(1)), match.group(2), match.group(3), match.group(4)
    starts = (0, 3, 7)
    stage = max(i for i, start in enumerate(starts) if index >= start)
    name = {"res_layer": "residual", "shortcut_layer": "shortcut"}[branch]
    return f"encoder.image_stream.stages.{stage}.{index - starts[stage]}.{name}.{layer}.{rest}"


# the ViT is written the same way in both releases, under another first name
def _vit_rules(prefix: str) -> list[Rule]:
    return [
        (rf"{prefix}(cls_token|pos_embed)", _to("encoder.{0}")),
        (rf"{prefix}blocks\.(\d)\.(norm[12])\.(\w+)", _to("encoder.blocks.{0}.{1}.{2}")),
        (rf"{prefix}blocks\.(\d)\.attn\.qkv\.(\w+)", _to("encoder.blocks.{0}.attention.qkv.{1}")),
        (rf"{prefix}blocks\.(\d)\.attn\.proj\.(\w+)", _to("encoder.blocks.{0}.attention.project.{1}")),
        (rf"{prefix}blocks\.(\d)\.mlp\.(fc[12])\.(\w+)", _to("encoder.blocks.{0}.mlp.{1}.{2}")),
        (rf"{prefix}norm\.(\w+)", _to("encoder.norm.{0}")),
        (rf"{prefix}se_block\.linear([12])\.(\w+)", _to("encoder.gate.fc{0}.{1}")),
    ]


def _vit_unused(prefix: str) -> list[str]:
    return [
        rf"{prefix}{name}"
        for name in (r"CON1\..*", r"IRLinear[12]\..*", r"patch_embed\..*", r"eca_block\..*")
    ] + [rf"{prefix}blocks\.\d\.conv\..*"]


_POSTER_V2: list[Rule] = [
    *_mobilefacenet_rules(r"face_landback\."),
    *_ir50_rules(r"ir_back\."),
    *_vit_rules(r"VIT\."),
    (r"VIT\.head\.linear\.(\w+)", _to("head.linear.{0}")),
    (
        r"attn([123])\.relative_position_bias_table",
        _to("encoder.levels.{0-1}.attention.relative_position_bias_table"),
    ),
    (r"attn([123])\.qkv\.(\w+)", _to("encoder.levels.{0-1}.attention.kv.{1}")),
    (r"attn([123])\.proj\.(\w+)", _to("encoder.levels.{0-1}.attention.project.{1}")),
    (r"window([123])\.norm\.(\w+)", _to("encoder.levels.{0-1}.norm.{1}")),
    (r"conv([123])\.(\w+)", _to("encoder.levels.{0-1}.downsample.{1}")),
    (r"ffn([123])\.gamma([12])", _to("encoder.levels.{0-1}.gamma{1}")),
    (r"ffn([123])\.mlp\.(fc[12])\.(\w+)", _to("encoder.levels.{0-1}.mlp.{1}.{2}")),
    (r"ffn([123])\.norm\.(\w+)", _to("encoder.levels.{0-1}.mlp_norm.{1}")),
    (r"last_face_conv\.(\w+)", _to("encoder.landmark_reduce.{0}")),
    (r"embed_q\.([01])\.(\w+)", _to("encoder.embed.0.{0}.{1}")),
    (r"embed_k\.0\.(\w+)", _to("encoder.embed.1.0.{0}")),
    (r"embed_v\.proj\.(\w+)", _to("encoder.embed.2.0.{0}")),
]
_POSTER_V2_UNUSED = [
    r"face_landback\.output_layer\..*",
    r"ir_back\.(output_layer|body4)\..*",
    r"attn[123]\.relative_position_index",
    *_vit_unused(r"VIT\."),
]

_ARBEX_CONV = {"0": "conv", "1": "norm", "2": "act"}
_ARBEX_DEPTHWISE = {"0": "expand", "1": "depthwise", "2": "project"}


def _arbex_block(match: re.Match[str]) -> str:
    path, index, block, part, rest = match.groups()
    unit = 0 if index is None else int(index) + 1
    stage = f"encoder.landmark_stream.stages.{int(path) - 1}.{unit}"
    return f"{stage}.{_ARBEX_DEPTHWISE[block]}.{_ARBEX_CONV[part]}.{rest}"


def _arbex_conv(match: re.Match[str]) -> str:
    names = {"1.0": "stem", "1.1": "stem_depthwise", "3.2": "head"}
    return f"encoder.landmark_stream.{names[match.group(1)]}.{_ARBEX_CONV[match.group(2)]}.{match.group(3)}"


_ARBEX: list[Rule] = [
    # path 1 opens with two plain convolutions, so its blocks are numbered 2 and 3; paths 2 and 3 start at 0
    (r"landmark\.path_(1\.0|1\.1|3\.2)\.net\.([012])\.(\w+)", _arbex_conv),
    (r"landmark\.path_(1)\.(?:2|3\.net\.(\d+))\.net\.([012])\.net\.([012])\.(\w+)", _arbex_block),
    (r"landmark\.path_([23])\.(?:0|1\.net\.(\d+))\.net\.([012])\.net\.([012])\.(\w+)", _arbex_block),
    (r"ir\.input_layer\.(\d)\.(\w+)", _to("encoder.image_stream.stem.{0}.{1}")),
    (
        r"ir\.net_([123])\.net\.(\d+)\.res\.(\d)\.(\w+)",
        _to("encoder.image_stream.stages.{0-1}.{1}.residual.{2}.{3}"),
    ),
    (
        r"ir\.net_([123])\.net\.(\d+)\.shortcut\.(\d)\.(\w+)",
        _to("encoder.image_stream.stages.{0-1}.{1}.shortcut.{2}.{3}"),
    ),
    *_vit_rules(r"vit\."),
    (r"attns\.(\d)\.table", _to("encoder.levels.{0}.attention.relative_position_bias_table")),
    (r"attns\.(\d)\.qkv\.(\w+)", _to("encoder.levels.{0}.attention.kv.{1}")),
    (r"attns\.(\d)\.linear\.(\w+)", _to("encoder.levels.{0}.attention.project.{1}")),
    (r"window_module\.(\d)\.norm\.(\w+)", _to("encoder.levels.{0}.norm.{1}")),
    (r"convs\.(\d)\.(\w+)", _to("encoder.levels.{0}.downsample.{1}")),
    (r"ffns\.(\d)\.gamma_([12])", _to("encoder.levels.{0}.gamma{1}")),
    (r"ffns\.(\d)\.mlp\.0\.(\w+)", _to("encoder.levels.{0}.mlp.fc1.{1}")),
    (r"ffns\.(\d)\.mlp\.3\.(\w+)", _to("encoder.levels.{0}.mlp.fc2.{1}")),
    (r"ffns\.(\d)\.norm\.(\w+)", _to("encoder.levels.{0}.mlp_norm.{1}")),
    (r"conv\.(\w+)", _to("encoder.landmark_reduce.{0}")),
    (r"embs\.0\.([01])\.(\w+)", _to("encoder.embed.0.{0}.{1}")),
    (r"embs\.1\.(\w+)", _to("encoder.embed.1.0.{0}")),
    (r"embs\.2\.proj\.(\w+)", _to("encoder.embed.2.0.{0}")),
    (r"net\.(\d+)\.(\w+)", _to("head.classifier.{0}.{1}")),
    (r"anchors", _to("head.anchors")),
]
_ARBEX_UNUSED = [r"attns\.\d\.index_relative", *_vit_unused(r"vit\.")]

_RULES: dict[str, tuple[list[Rule], list[str]]] = {
    "poster-v2": (_POSTER_V2, _POSTER_V2_UNUSED),
    "arbex": (_ARBEX, _ARBEX_UNUSED),
    "ir50": (
        [*_ir50_rules(""), (r"body\.(1?\d|20)\.(res_layer|shortcut_layer)\.(\d)\.(\w+)", _ir50_flat_unit)],
        [r"output_layer\..*", r"body4\..*", r"body\.2[123]\..*"],
    ),
    "mobilefacenet": (_mobilefacenet_rules(""), [r"output_layer\..*"]),
}
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
    if layout == "poster-v2":
        head = weights.get("head.linear.weight")
        return model_config("poster-v2", num_classes=7 if head is None else max(head.shape[0], 2))
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
