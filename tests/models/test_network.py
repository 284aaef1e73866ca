"""Whole networks: sizes, independence of images, windows, tracing."""

from __future__ import annotations

import pytest
import torch

from edgefel.errors import EdgefelError
from edgefel.models import ModelConfig, build_model, list_models, model_config
from edgefel.models.config import EncoderConfig
from edgefel.models.profile import profile
from edgefel.models.window_attention import DropPath, FusionLevel, window_partition, window_reverse


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    model = build_model("arbex-nano")
    with torch.no_grad():  # fills the batch norms' statistics
        model(torch.randn(8, 3, 112, 112))
    return model.eval()


def test_sizes_are_those_of_the_papers():
    arbex, poster = profile(model_config("arbex")), profile(model_config("poster-v2"))
    assert 43.7e6 <= arbex.parameters <= 44e6
    assert 8.3e9 <= arbex.macs <= 8.6e9
    assert 43.6e6 <= poster.parameters < arbex.parameters
    nano = profile(model_config("arbex-nano"))
    assert nano.parameters <= 2e6
    assert nano.macs <= 0.3e9


def test_parameter_count_is_that_of_the_real_model(nano):
    assert profile(nano.config).parameters == sum(p.numel() for p in nano.parameters())


def test_output_shapes_and_ranges(nano):
    with torch.no_grad():
        out = nano(torch.randn(3, 3, 112, 112))
    assert [tuple(value.shape) for value in out] == [(3, 7), (3, 7), (3, 7), (3,), (3, 64)]
    torch.testing.assert_close(out.probabilities.sum(-1), torch.ones(3))
    assert ((out.confidence >= 0) & (out.confidence <= 1)).all()


def test_a_prediction_does_not_depend_on_its_batch_mates(nano):
    images = torch.randn(4, 3, 112, 112)
    with torch.no_grad():
        together = nano(images)
        for row in range(4):
            alone = nano(images[row : row + 1])
            for name in together._fields:
                torch.testing.assert_close(
                    getattr(together, name)[row : row + 1], getattr(alone, name), atol=1e-6, rtol=0, msg=name
                )


def test_a_224_input_is_sampled_down_by_every_second_pixel(nano):
    images = torch.randn(2, 3, 224, 224)
    resized = torch.nn.functional.interpolate(images, size=112)
    with torch.no_grad():
        assert torch.equal(nano(images).logits, nano(resized).logits)


def test_an_input_that_is_no_multiple_of_112_is_refused(nano):
    for shape in ((1, 3, 128, 128), (1, 3, 112, 224)):
        with pytest.raises(ValueError, match="^image: expected"):
            nano(torch.zeros(shape))


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = build_model("arbex-nano", head={"attention_tokens": "patches"})
    out = model(torch.randn(4, 3, 112, 112))
    out.probabilities[:, 0].log().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a constant added to every key shifts all scores of a query alike, so key biases never learn
    assert silent in ([], ["head.attentive.key.bias"])


@pytest.mark.parametrize("name", ["arbex-nano", "poster-v2-nano"])
def test_traces_with_a_dynamic_batch(name):
    torch.manual_seed(0)
    model = build_model(name).eval()
    batch = torch.export.Dim("N", min=1, max=64)
    program = torch.export.export(
        model, (torch.randn(2, 3, 112, 112),), dynamic_shapes=({0: batch}, None)[:1]
    )
    images = torch.randn(5, 3, 112, 112)
    with torch.no_grad():
        for traced, eager in zip(program.module()(images), model(images), strict=True):
            torch.testing.assert_close(traced, eager)


def test_maps_larger_than_the_window():
    """Shared queries: each window of a larger map equals a map of one window."""
    torch.manual_seed(0)
    config = EncoderConfig(
        image_widths=(8, 8, 8),
        landmark_widths=(8, 8, 8),
        windows=(7, 7, 7),
        heads=(2, 2, 2),
        mlp_ratio=2.0,
        layer_scale=0.5,
        query_projection=True,
    )
    level = FusionLevel(config, 0).eval()
    windows = torch.randn(3 * 4, 49, 8)
    landmarks = torch.randn(3, 49, 8)
    with torch.no_grad():
        shared = level.attention(windows, landmarks)
        repeated = level.attention(windows, landmarks.repeat_interleave(4, dim=0))
        single = level.attention(windows[5:6], landmarks[1:2])
        out = level(torch.randn(3, 8, 28, 28), torch.randn(3, 8, 14, 14))
    torch.testing.assert_close(shared, repeated)
    torch.testing.assert_close(shared[5:6], single)
    assert out.shape == (3, 8, 14, 14)


@pytest.mark.parametrize("size", [(7, 7), (14, 21)])
def test_partition_and_reverse(size):
    x = torch.arange(2 * size[0] * size[1] * 3.0).reshape(2, *size, 3)
    windows = window_partition(x, 7)
    assert torch.equal(window_reverse(windows, 7, *size), x)
    assert torch.equal(windows[0], x[0, :7, :7].reshape(49, 3))
    assert torch.equal(windows[-1], x[1, -7:, -7:].reshape(49, 3))


def test_a_map_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="10x7 map"):
        window_partition(torch.zeros(1, 10, 7, 3), 7)


def test_drop_path_keeps_the_mean_and_drops_whole_images():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    out = layer(torch.ones(4000, 3))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_config_round_trip():
    for name in list_models():
        config = model_config(name)
        assert ModelConfig.from_dict(config.to_dict()) == config


def test_bad_names_and_settings():
    with pytest.raises(EdgefelError, match="unknown model 'arbx'; known: arbex"):
        build_model("arbx")
    with pytest.raises(EdgefelError, match=r"unknown settings \['depht'\]"):
        model_config("arbex", encoder={"depht": 3})
    with pytest.raises(EdgefelError, match="no head to configure"):
        model_config("poster-v2", head={"delta": 2.0})
    with pytest.raises(EdgefelError, match="multiple of 112"):
        model_config("arbex", input_size=200)
    with pytest.raises(EdgefelError, match="not divisible"):
        model_config("arbex", encoder={"heads": (3, 4, 8)})
    with pytest.raises(EdgefelError, match="joins the streams"):
        model_config("arbex", encoder={"landmark_widths": (32, 128, 512)})
