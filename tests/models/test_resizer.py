"""The Neural Resizer: the published network's numbers, and every model behind it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from published_weights import golden, golden_input, state_dict

from edgefel.errors import EdgefelError
from edgefel.models import build_model, list_models, model_config
from edgefel.models.config import ResizerConfig
from edgefel.models.resizer import NeuralResizer

# published name -> ours
_NAMES = (
    (r"conv1\.(\w+)", r"before.0.\1"),
    (r"conv2\.(\w+)", r"before.2.\1"),
    (r"bn1\.(\w+)", r"before.4.\1"),
    (r"resblock\.(\d)\.conv1\.(\w+)", r"blocks.\1.residual.0.\2"),
    (r"resblock\.(\d)\.bn1\.(\w+)", r"blocks.\1.residual.1.\2"),
    (r"resblock\.(\d)\.conv2\.(\w+)", r"blocks.\1.residual.3.\2"),
    (r"resblock\.(\d)\.bn2\.(\w+)", r"blocks.\1.residual.4.\2"),
    (r"conv3\.(\w+)", r"after.0.\1"),
    (r"bn2\.(\w+)", r"after.1.\1"),
    (r"conv4\.(\w+)", r"project.\1"),
)


def ours(key: str) -> str:
    for pattern, name in _NAMES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, name, key)
    raise KeyError(key)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_it_computes_what_the_published_network_computes(dtype, close):
    """float32 rounds the coordinates of the resize too, of which pixels far from the corner see more."""
    resizer = NeuralResizer(ResizerConfig(scale=0.584)).eval()
    resizer.load_state_dict({ours(key): value for key, value in state_dict("neural_resizer")[""].items()})
    with torch.no_grad():
        out = resizer.to(dtype)(golden_input(1, 384).to(dtype))
    expected = golden("neural_resizer")
    assert tuple(out.shape) == tuple(expected["shape"])
    original = out[0].numpy()
    np.testing.assert_allclose(original.mean((1, 2)), expected["mean"][0], atol=close, rtol=0)
    np.testing.assert_allclose(original[:, 100:116, 100:116], expected["patch"], atol=close, rtol=0)
    np.testing.assert_allclose(original[:, :4, :4], expected["corner"], atol=close, rtol=0)
    np.testing.assert_allclose(original[:, -4:, -4:], expected["corner2"], atol=close, rtol=0)


@pytest.mark.parametrize("side", [48, 96, 100, 192, 384])
def test_any_side_from_48_to_384(side):
    model = build_model("apvit-nano+resizer", input_size=side).eval()
    with torch.no_grad():
        assert model.resizer(torch.randn(1, 3, side, side)).shape == (1, 3, 112, 112)
        assert model(torch.randn(2, 3, side, side)).logits.shape == (2, 7)
        with pytest.raises(ValueError, match=f"{side}, {side}"):
            model(torch.randn(2, 3, side + 1, side + 1))


@pytest.mark.parametrize("name", list_models())
def test_it_goes_in_front_of_every_model(name):
    config = model_config(f"{name}+resizer")
    assert config.resizer is not None
    assert config.name == f"{name}+resizer"
    assert config.resizer.output_size == model_config(name).input_size
    assert config.resizer.scale == 0.584
    assert config.input_size == {224: 384, 112: 192}[config.resizer.output_size]


def test_the_published_factor_stays_with_the_published_sides():
    assert model_config("arbex+resizer", num_classes=8).resizer.scale == 0.584
    assert model_config("arbex+resizer", input_size=300).resizer.scale is None
    assert model_config("arbex+resizer", resizer={"channels": 8}).resizer == ResizerConfig(8, 1, 224, None)
    given = model_config("arbex+resizer", input_size=100, resizer={"scale": 2.249})
    assert given.resizer.scale == 2.249


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_size": 47}, "from 48 to 384"),
        ({"input_size": 385}, "from 48 to 384"),
        ({"resizer": {"output_size": 100}}, "multiple of 112"),
        ({"resizer": {"scale": 0.5}}, "leave out the scale"),
        ({"resizer": {"channels": 0}}, "channels"),
        ({"resizer": {"depth": 1}}, "unknown entries"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(EdgefelError, match=message):
        model_config("arbex-nano+resizer", **settings)


@pytest.mark.parametrize("name", ["arbex+upscaler", "resizer", "arbex+", "arbex+resizer+resizer"])
def test_names_that_are_none(name):
    with pytest.raises(EdgefelError, match=re.escape(f"model '{name}'")):
        model_config(name)


def test_it_starts_as_a_plain_resize_and_learns():
    """A network that was trained before sees what it is used to."""
    torch.manual_seed(0)
    resizer = NeuralResizer(ResizerConfig(output_size=112)).train()
    image = torch.randn(2, 3, 48, 48)
    plain = torch.nn.functional.interpolate(image, (112, 112), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resizer(image), plain)
    target = torch.randn(2, 3, 112, 112)
    optimizer = torch.optim.SGD(resizer.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (resizer(image) - target).square().mean().backward()
        optimizer.step()
    # from the second step on the layers before the last one learn too
    assert all(
        parameter.grad.abs().max() > 0 for name, parameter in resizer.named_parameters() if "weight" in name
    )
