"""Published weights as trainers wrap them: every wrapper, prefix and precision comes to the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from published_weights import golden, golden_input, state_dict

from edgefel.errors import EdgefelError
from edgefel.models import pickles
from edgefel.models.published import Imported, import_published

Tensors = dict[str, torch.Tensor]
STREAM = "encoder.landmark_stream."


@pytest.fixture(scope="module")
def poster() -> Tensors:
    return state_dict("poster_v2_7cls")[""]


@pytest.fixture(scope="module")
def backbone(poster) -> Tensors:
    """MobileFaceNet's entries, few enough to be written again and again."""
    prefix = "face_landback."
    return {key.removeprefix(prefix): value for key, value in poster.items() if key.startswith(prefix)}


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Imports contents from memory: whole networks take 240 MB each on disk."""

    def import_contents(contents: list[object], layout: str) -> Imported:
        files = [tmp_path / f"{number}.pth" for number in range(len(contents))]
        for file in files:
            file.touch()
        monkeypatch.setattr(pickles, "_load", lambda file: contents[int(Path(file).stem)])
        return import_published(files, layout)

    return import_contents


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: value for key, value in tensors.items()}


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}


def arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in tensors.items()}


WRAPPED = {
    "as published": lambda t: {"epoch": 5, "state_dict": under("module.", t), "best_acc": torch.tensor(92.2)},
    "bare": lambda t: t,
    "compiled": lambda t: {"state_dict": under("_orig_mod.", t)},
    "ddp compiled": lambda t: {"state_dict": under("module._orig_mod.", t)},
    "lightning": lambda t: {"state_dict": under("model.", t), "pytorch-lightning_version": "2.1.0"},
    "another shared prefix": lambda t: {"state_dict": under("my_net.inner.", t)},
    "net": lambda t: {"net": t, "acc": 0.9},
    "model_state_dict": lambda t: {"model_state_dict": t},
    "nested": lambda t: {"checkpoint": {"model": {"state_dict": under("module.", t)}}},
    "ema": lambda t: {"state_dict_ema": under("module.", t), "epoch": 3},
    "ema alone": lambda t: {"ema": t},
    "averaged model": lambda t: {"state_dict": {"n_averaged": torch.tensor(9), **under("module.", t)}},
    "numpy": lambda t: {"state_dict": arrays(t)},
    "double": lambda t: {"state_dict": cast(t, torch.double)},
    "optimizer too": lambda t: {"model": t, "optimizer": {"state": {"x": {"exp_avg": torch.ones(3)}}}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_files_of_every_shape_hold_the_same_backbone(name, backbone, tmp_path):
    file = tmp_path / "mobilefacenet.pth"
    torch.save(WRAPPED[name](backbone), file)
    imported = import_published([file], "mobilefacenet")
    assert all(value.dtype in (torch.float32, torch.int64) for value in imported.weights.values())
    for ours, published in {
        "stem.conv.weight": "conv1.conv.weight",
        "stages.1.6.project.norm.running_var": "conv_4.model.5.project.bn.running_var",
        "head.norm.num_batches_tracked": "conv_6_sep.bn.num_batches_tracked",
    }.items():
        assert torch.equal(imported.weights[STREAM + ours], backbone[published])


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.half, 2.0**-11), (torch.bfloat16, 2.0**-8)])
def test_reduced_precisions_are_read_to_their_rounding(dtype, rounding, backbone, tmp_path):
    torch.save({"state_dict": {key: value.to(dtype) for key, value in backbone.items()}}, tmp_path / "w.pth")
    weights = import_published([tmp_path / "w.pth"], "mobilefacenet").weights
    assert weights[STREAM + "stem.norm.num_batches_tracked"].dtype == torch.int64
    value, exact = weights[STREAM + "stem.conv.weight"], backbone["conv1.conv.weight"]
    assert value.dtype == torch.float32
    assert ((value - exact).abs() <= rounding * exact.abs() + 1e-7).all()


@pytest.mark.parametrize(
    "wrap", ["ddp compiled", "another shared prefix", "averaged model", "numpy", "double"]
)
def test_poster_v2_gives_the_golden_logits(wrap, poster, read):
    content = WRAPPED["bare" if wrap == "numpy" else wrap](poster)
    if wrap == "numpy":  # as the unpickler leaves them
        content = {}
        for key, value in poster.items():
            content[key] = pickles._Array()
            content[key].values = value.numpy()
    model = read([content], "poster-v2").model
    with torch.no_grad():
        logits = model(golden_input()).logits
    np.testing.assert_allclose(logits.numpy(), golden("poster_v2")["logits"], atol=1e-5, rtol=0)


def test_apvit_as_mmcls_leaves_it(read):
    names = ["Anger", "Disgust", "Fear", "Sadness", "Happiness", "Surprise", "Neutral"]
    tensors = cast(state_dict("apvit")[""], torch.double)
    content = {"meta": {"epoch": 40, "CLASSES": names}, "state_dict": tensors, "optimizer": {"state": {}}}
    imported = read([content], "apvit")
    assert imported.classes == tuple(names)
    with torch.no_grad():
        logits = imported.model(golden_input(side=112)).logits
    np.testing.assert_allclose(logits.numpy(), golden("apvit")["logits"], atol=1e-5, rtol=0)


def test_the_three_files_of_arbex_may_each_be_wrapped_otherwise(read):
    parts = state_dict("arbex")
    encoder, classifier, anchors = (parts[name] for name in ("vit", "classifier", "anchors"))
    contents = [
        {"net": under("module.", classifier)},  # its own names begin with "net." too
        {"state_dict": under("_orig_mod.", cast(encoder, torch.double))},
        under("module.", anchors),
    ]
    model = read(contents, "arbex").model
    with torch.no_grad():
        logits = model(golden_input()).logits
    np.testing.assert_allclose(logits.numpy(), golden("arbex")["logits"], atol=1e-5, rtol=0)


def test_ir50_under_a_prefix(poster, read):
    tensors = {key.removeprefix("ir_back."): value for key, value in poster.items() if "ir_back." in key}
    imported = read([{"backbone": under("backbone.", tensors)}], "ir50")
    assert imported.weights["encoder.image_stream.stem.0.weight"] is not None
    assert imported.notes == ()


def changed(tensors: Tensors) -> Tensors:
    return {key: value + 1 for key, value in tensors.items()}


@pytest.mark.parametrize(
    "both",
    [
        lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
        lambda raw, ema: {"ema": {"module": ema}, "model": raw},
        lambda raw, ema: {"state_dict": {**under("model.", raw), **under("model_ema.module.", ema)}},
        lambda raw, ema: {"state_dict": {**under("ema_model.", ema), **under("model.", raw)}},
    ],
)
def test_of_averaged_and_raw_weights_the_averaged_are_taken_and_it_says_so(both, backbone, read):
    imported = read([both(backbone, changed(backbone))], "mobilefacenet")
    assert torch.equal(imported.weights[STREAM + "stem.conv.weight"], backbone["conv1.conv.weight"] + 1)
    (note,) = imported.notes
    assert "(averaged weights); not taken: " in note


def test_averages_that_lack_entries_are_not_taken(backbone, read):
    parameters = {key: value + 1 for key, value in backbone.items() if "running" not in key}
    imported = read([{"ema": parameters, "state_dict": backbone}], "mobilefacenet")
    assert torch.equal(imported.weights[STREAM + "stem.conv.weight"], backbone["conv1.conv.weight"])
    assert imported.notes == ("0.pth: took state_dict (what fits best); not taken: ema",)


def test_two_networks_of_equal_standing_are_refused(backbone, read):
    with pytest.raises(
        EdgefelError, match="two sets of weights, student and teacher.*save one of them alone"
    ):
        read([{"student": backbone, "teacher": changed(backbone)}], "mobilefacenet")


def test_entries_beside_the_network_are_left_out_and_said(backbone, read):
    tensors = {**under("model.", backbone), "criterion.weight": torch.ones(7)}
    imported = read([{"state_dict": tensors}], "mobilefacenet")
    assert imported.notes == ("0.pth: left out 1 entries that are not under model.: criterion.weight",)


def with_value(tensors: Tensors, key: str, value: float) -> Tensors:
    broken = tensors[key].clone()
    broken.view(-1)[0] = value
    return {**tensors, key: broken}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("conv1.conv.weight", float("nan"), r"NaN or infinite values \(1 of 1728\)"),
        ("conv1.bn.running_mean", float("inf"), r"NaN or infinite values \(1 of 64\)"),
        ("conv1.bn.running_var", -1.0, r"negative variances \(1 of 64\)"),
    ],
)
def test_values_that_cannot_be_computed_with_are_refused_by_name(key, value, problem, backbone, read):
    with pytest.raises(EdgefelError, match=f"{key} has {problem}; .*take an earlier checkpoint"):
        read([{"state_dict": with_value(backbone, key, value)}], "mobilefacenet")


def test_doubles_too_large_for_float32_are_refused(backbone, read):
    tensors = with_value(cast(backbone, torch.double), "conv1.conv.weight", 1e300)
    with pytest.raises(EdgefelError, match="conv1.conv.weight has NaN or infinite"):
        read([tensors], "mobilefacenet")


def test_values_that_the_network_never_uses_may_be_anything(poster, read):
    key = next(key for key in poster if key.startswith("ir_back.output_layer") and poster[key].ndim == 2)
    assert read([with_value(poster, key, float("nan"))], "poster-v2").model is not None


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_and_sparse_weights_are_refused_by_name(backbone, read):
    key = "conv1.conv.weight"
    for value, problem in [
        (torch.quantize_per_tensor(backbone[key], 0.1, 0, torch.qint8), "is a quantized tensor"),
        (backbone[key].to_sparse(), "is a sparse tensor"),
        (backbone[key].to("meta"), "is a tensor without values"),
        (backbone[key].to(torch.int8), r"holds torch.int8 values"),
        (backbone[key].to(torch.complex64), r"holds torch.complex64 values"),
    ]:
        with pytest.raises(EdgefelError, match=f"{key}.* {problem}"):
            read([{**backbone, key: value}], "mobilefacenet")


def test_another_networks_file_lists_what_it_holds(poster, read):
    names = {f"layer{number}.weight": torch.ones(2) for number in range(9)}
    with pytest.raises(EdgefelError, match=r"try another --layout .*entries: layer0.weight, .* and 4 more$"):
        read([{"state_dict": names}], "poster-v2")
    with pytest.raises(EdgefelError, match="nothing in it has a name of the layout 'mobilefacenet'"):
        read([poster], "mobilefacenet")  # its backbone lies under a name of its own, which nobody meant
