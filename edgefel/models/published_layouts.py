"""Names in published checkpoints -> names in edgefel, and the preprocessing that the weights were tested with.

A layout is a list of rules (pattern of a published key -> our key) and a list of patterns of unused entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

from edgefel.data.preprocessing import Preprocessing

LAYOUTS = ("poster-v2", "arbex", "apvit", "ir50", "mobilefacenet")

# Mean and deviation are ImageNet's and the order is RGB in all of them. Sources:
# POSTER++: Resize((224, 224)) of Pillow images, no crop (Talented-Q/POSTER_V2, main.py and main_8.py, test_dataset).
# APViT: mmcls' Resize(size=112), which is OpenCV's bilinear, no crop (youqingxiaozhua/APViT,
#   configs/_base_/datasets/RAF.py and mmcls/datasets/pipelines/transforms.py).
# ARBEx: resize 256, crop 224 as its training (arXiv 2305.01486), in the middle where nothing is random. The script of
#   its release validates with Resize((224, 224)) instead (takihasan/ARBEx, arbex/data.py, get_dataloader_dev).
PREPROCESSING = {
    "poster-v2": Preprocessing(224, 224, resample="antialias"),
    "apvit": Preprocessing(112, 112, resample="bilinear"),
    "arbex": Preprocessing(256, 224, resample="antialias"),
}

Replacement = Callable[[re.Match[str]], str]
Rule = tuple[str, Replacement]


def _to(template: str) -> Replacement:
    """Fills `{0}`, `{1}`... with the match's groups; `{0-1}` and `{0+1}` shift a number by one."""

    def replace(match: re.Match[str]) -> str:
        def field(found: re.Match[str]) -> str:
            value, shift = match.group(int(found.group(1)) + 1), found.group(2)
            return str(int(value) + int(shift)) if shift else value

        return re.sub(r"\{(\d)([+-]\d)?\}", field, template)

    return replace


# MobileFaceNet's layers, by name in POSTER++ and by number in ARBEx
_DEPTHWISE_PARTS = {"conv": "expand", "conv_dw": "depthwise", "project": "project"}
_DEPTHWISE_PARTS |= {"0": "expand", "1": "depthwise", "2": "project"}
_CONV_PARTS = {"conv": "conv", "bn": "norm", "prelu": "act", "0": "conv", "1": "norm", "2": "act"}
_PLAIN_CONVS = {"conv1": "stem", "conv2_dw": "stem_depthwise", "conv_6_sep": "head"}
_PLAIN_CONVS |= {"1.0": "stem", "1.1": "stem_depthwise", "3.2": "head"}


def _landmark_conv(match: re.Match[str]) -> str:
    conv, part, rest = match.groups()
    return f"encoder.landmark_stream.{_PLAIN_CONVS[conv]}.{_CONV_PARTS[part]}.{rest}"


def _landmark_block(stages: Mapping[str, int]) -> Replacement:
    """Every stage is a down-sampling block and a run of numbered residual ones. stages: their names -> ours."""

    def replace(match: re.Match[str]) -> str:
        stage, number, block, part, rest = match.groups()
        unit = 0 if number is None else int(number) + 1
        name = f"{stages[stage]}.{unit}.{_DEPTHWISE_PARTS[block]}.{_CONV_PARTS[part]}.{rest}"
        return f"encoder.landmark_stream.stages.{name}"

    return replace


def _mobilefacenet_rules(prefix: str) -> list[Rule]:
    return [
        (rf"{prefix}(conv1|conv2_dw|conv_6_sep)\.(conv|bn|prelu)\.(\w+)", _landmark_conv),
        (
            rf"{prefix}conv_(23|34|45|3|4|5)(?:\.model\.(\d+))?\.(conv|conv_dw|project)\.(conv|bn|prelu)\.(\w+)",
            _landmark_block({"23": 0, "34": 1, "45": 2, "3": 0, "4": 1, "5": 2}),
        ),
    ]


def _ir50_rules(
    prefix: str,
    unit: str = r"body([123])\.(\d+)",
    branches: tuple[str, str] = ("res_layer", "shortcut_layer"),
    stage: str = "{0-1}",
) -> list[Rule]:
    """unit: pattern of a unit's name, with the groups stage and number. stage: template of our stage number."""
    ours = f"encoder.image_stream.stages.{stage}.{{1}}"
    return [
        (rf"{prefix}input_layer\.(\d)\.(\w+)", _to("encoder.image_stream.stem.{0}.{1}")),
        *(
            (rf"{prefix}{unit}\.{branch}\.(\d)\.(\w+)", _to(f"{ours}.{name}.{{2}}.{{3}}"))
            for branch, name in zip(branches, ("residual", "shortcut"), strict=True)
        ),
    ]


def _ir50_flat_unit(match: re.Match[str]) -> str:
    """face.evoLVe numbers the units of all four bodies consecutively: 3, 4, 14 and an unused 3."""
    number, branch, layer, rest = match.groups()
    stage, start = max((stage, start) for stage, start in enumerate((0, 3, 7)) if int(number) >= start)
    name = {"res_layer": "residual", "shortcut_layer": "shortcut"}[branch]
    return f"encoder.image_stream.stages.{stage}.{int(number) - start}.{name}.{layer}.{rest}"


# the ViT has the same names in all releases, under different prefixes
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


_VIT_UNUSED = r"(CON1|IRLinear[12]|patch_embed|eca_block|blocks\.\d\.conv)\..*"


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
    rf"VIT\.{_VIT_UNUSED}",
]

_ARBEX_BLOCK = _landmark_block({"1": 0, "2": 1, "3": 2})
_ARBEX: list[Rule] = [
    # path 1 opens with two plain convolutions, so its blocks are numbered 2 and 3; paths 2 and 3 start at 0
    (r"landmark\.path_(1\.0|1\.1|3\.2)\.net\.([012])\.(\w+)", _landmark_conv),
    (r"landmark\.path_(1)\.(?:2|3\.net\.(\d+))\.net\.([012])\.net\.([012])\.(\w+)", _ARBEX_BLOCK),
    (r"landmark\.path_([23])\.(?:0|1\.net\.(\d+))\.net\.([012])\.net\.([012])\.(\w+)", _ARBEX_BLOCK),
    *_ir50_rules(r"ir\.", r"net_([123])\.net\.(\d+)", ("res", "shortcut")),
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
_ARBEX_UNUSED = [r"attns\.\d\.index_relative", rf"vit\.{_VIT_UNUSED}"]

_APVIT: list[Rule] = [
    *_ir50_rules(r"extractor\.", r"body\.(\d)\.(\d+)", stage="{0}"),
    (r"vit\.(cls_pos_embed|patch_pos_embed)", _to("encoder.{0}")),
    (r"vit\.projs\.0\.(\w+)", _to("encoder.embed.{0}")),
    *_vit_rules(r"vit\."),
    (r"head\.fc\.(\w+)", _to("head.linear.{0}")),
]

RULES: dict[str, tuple[list[Rule], list[str]]] = {
    "poster-v2": (_POSTER_V2, _POSTER_V2_UNUSED),
    "arbex": (_ARBEX, _ARBEX_UNUSED),
    "apvit": (_APVIT, []),
    "ir50": (
        [*_ir50_rules(""), (r"body\.(1?\d|20)\.(res_layer|shortcut_layer)\.(\d)\.(\w+)", _ir50_flat_unit)],
        [r"output_layer\..*", r"body4\..*", r"body\.2[123]\..*"],
    ),
    "mobilefacenet": (_mobilefacenet_rules(""), [r"output_layer\..*"]),
}


@cache
def _compiled(layout: str) -> tuple[list[tuple[re.Pattern[str], Replacement]], list[re.Pattern[str]]]:
    rules, unused = RULES[layout]
    return [(re.compile(pattern), to) for pattern, to in rules], [re.compile(pattern) for pattern in unused]


def translate(layout: str, key: str) -> str | None:
    """Our name of a published entry; "" for an unused one, None for one that the layout does not know."""
    rules, unused = _compiled(layout)
    for pattern, replacement in rules:
        if match := pattern.fullmatch(key):
            return replacement(match)
    return "" if any(pattern.fullmatch(key) for pattern in unused) else None
