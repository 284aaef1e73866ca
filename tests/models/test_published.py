"""Published checkpoints load as published, and the networks compute what the published ones compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from published_weights import golden, golden_input, state_dict

from edgefel.errors import EdgefelError
from edgefel.kernels.anchor_softmax.reference import anchor_distances
from edgefel.models.published import import_published


class RecorderMeter:
    """Stands for the class that POSTER++'s training script pickles beside the weights."""

    def __init__(self) -> None:
        self.epoch_losses = np.zeros((3, 2))


RecorderMeter.__module__ = "__main__"


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


@pytest.fixture(scope="module")
def poster_state() -> dict[str, torch.Tensor]:
    return state_dict("poster_v2_7cls")[""]


@pytest.fixture(scope="module")
def poster_file(poster_state, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("poster") / "poster.pth"
    wrapped = {f"module.{key}": value for key, value in poster_state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "best_acc": torch.tensor(90.0)}, file)
    return file


@pytest.fixture(scope="module")
def arbex_files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("arbex")
    files = []
    for name, tensors in state_dict("arbex").items():
        file = folder / f"{name}.best.pth"
        torch.save(tensors["anchors"] if name == "anchors" else tensors, file)
        files.append(file)
    return files


def test_poster_v2_matches_the_published_network(poster_file):
    model = import_published([poster_file], "poster-v2").model
    assert model is not None
    captured = {}
    for level, fusion in enumerate(model.encoder.levels, start=1):
        fusion.attention.register_forward_hook(
            lambda _, __, out, level=level: captured.__setitem__(f"attn{level}_mean", out.mean(dim=(0, 1)))
        )
    model.encoder.levels[2].register_forward_hook(
        lambda _, __, out: captured.__setitem__("ffn3_mean", out.permute(0, 2, 3, 1).mean(dim=(0, 1)))
    )
    with torch.no_grad():
        out = model(golden_input())
    captured |= {"logits": out.logits, "embedding": out.embedding}
    expected = golden("poster_v2")
    assert set(captured) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(captured[name].numpy(), value, atol=1e-5, rtol=0, err_msg=name)


def test_arbex_release_matches_the_published_network(arbex_files):
    model = import_published(arbex_files[::-1], "arbex").model
    assert model is not None
    assert model.config.num_classes == 8
    with torch.no_grad():
        out = model(golden_input())
        distances = anchor_distances(out.embedding, model.head.anchors)
    expected = golden("arbex")
    np.testing.assert_allclose(out.embedding.numpy(), expected["embedding"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(out.logits.numpy(), expected["logits"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(distances.numpy(), expected["distances"], atol=1e-5, rtol=0)


def test_unused_entries_are_named_and_only_those(poster_file):
    unused = import_published([poster_file], "poster-v2").unused
    assert any(key.startswith("ir_back.output_layer") for key in unused)
    assert any(key.startswith("VIT.CON1") for key in unused)
    assert not any("ffn" in key or "input_layer" in key for key in unused)


@pytest.mark.parametrize("flat", [False, True], ids=["split bodies", "numbered through"])
def test_ir50_alone(poster_state, tmp_path, flat):
    starts = {"body1": 0, "body2": 3, "body3": 7}
    tensors = {}
    for key, value in poster_state.items():
        if key.startswith("ir_back."):
            name = key.removeprefix("ir_back.")
            body, _, rest = name.partition(".")
            if flat and body in starts:
                unit, _, rest = rest.partition(".")
                name = f"body.{starts[body] + int(unit)}.{rest}"
            tensors[name] = value
    torch.save(tensors, tmp_path / "ir50.pth")
    imported = import_published([tmp_path / "ir50.pth"], "ir50")
    assert imported.part == "encoder.image_stream"
    key = "encoder.image_stream.stages.2.13.residual.3.weight"
    assert torch.equal(imported.weights[key], poster_state["ir_back.body3.13.res_layer.3.weight"])


def test_mobilefacenet_alone(poster_state, tmp_path):
    prefix = "face_landback."
    tensors = {k.removeprefix(prefix): v for k, v in poster_state.items() if k.startswith(prefix)}
    torch.save({"state_dict": tensors}, tmp_path / "mobilefacenet_model_best.pth.tar")
    imported = import_published([tmp_path / "mobilefacenet_model_best.pth.tar"], "mobilefacenet")
    key = "encoder.landmark_stream.stages.1.6.project.conv.weight"
    assert torch.equal(
        imported.weights[key], poster_state["face_landback.conv_4.model.5.project.conv.weight"]
    )


def test_the_training_recorders_beside_the_weights_are_ignored(poster_state, tmp_path, monkeypatch):
    import __main__

    monkeypatch.setattr(__main__, "RecorderMeter", RecorderMeter, raising=False)
    torch.save({"state_dict": poster_state, "recorder": RecorderMeter()}, tmp_path / "with_recorder.pth")
    assert import_published([tmp_path / "with_recorder.pth"], "poster-v2").model is not None


def save(tensors: object, folder: Path) -> list[Path]:
    torch.save(tensors, folder / "file.pth")
    return [folder / "file.pth"]


def test_missing_unknown_and_misshapen_entries_are_listed(poster_state, tmp_path):
    broken = dict(poster_state)
    del broken["attn2.proj.bias"]
    broken["surprise.weight"] = torch.zeros(1)
    broken["ffn1.gamma1"] = torch.zeros(5)
    with pytest.raises(EdgefelError) as caught:
        import_published(save(broken, tmp_path), "poster-v2")
    message = str(caught.value)
    assert "1 missing: encoder.levels.1.attention.project.bias" in message
    assert "1 unknown: surprise.weight" in message
    assert "encoder.levels.0.gamma1 (5,) instead of (64,)" in message


def test_wrong_layout(poster_file, arbex_files):
    with pytest.raises(EdgefelError, match="try another --layout"):
        import_published([poster_file], "mobilefacenet")
    with pytest.raises(EdgefelError, match="missing"):
        import_published(arbex_files[:1], "arbex")
    with pytest.raises(EdgefelError, match="is one file"):
        import_published(arbex_files, "poster-v2")
    with pytest.raises(EdgefelError, match="unknown layout"):
        import_published([poster_file], "resnet")


def test_pickled_code_is_refused_and_not_run(poster_state, tmp_path):
    with pytest.raises(EdgefelError, match="pickled code"):
        import_published(save({"state_dict": poster_state, "extra": Evil()}, tmp_path), "poster-v2")


def test_missing_and_truncated_files(poster_file, tmp_path):
    with pytest.raises(EdgefelError, match="no such file"):
        import_published([tmp_path / "absent.pth"], "poster-v2")
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(poster_file.read_bytes()[:100_000])
    with pytest.raises(EdgefelError, match="truncated"):
        import_published([truncated], "poster-v2")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(EdgefelError, match="cannot be read"):
        import_published([tmp_path / "text.pth"], "poster-v2")
