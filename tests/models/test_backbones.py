"""The two streams: maps of three levels, and what a larger image gives them."""

from __future__ import annotations

import pytest
import torch
from convolutions import Convolutions
from torch import nn

from edgefel.models import build_model
from edgefel.models.backbones import (
    DepthwiseConv2d,
    ImageStream,
    LandmarkStream,
    PReLU,
    ResidualUnit,
    ShortcutConv2d,
    to_stream_size,
)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_larger_input_is_sampled_down_as_by_nearest_neighbour(factor):
    images = torch.randn(2, 3, 112 * factor, 112 * factor)
    assert torch.equal(to_stream_size(images), torch.nn.functional.interpolate(images, size=112))


def test_sides_and_widths_of_the_maps():
    image = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        image_maps = ImageStream(4, (4, 8, 16), (1, 2, 1)).eval()(image)
        landmark_maps = LandmarkStream((4, 8, 16), (1, 2, 1)).eval()(image)
    assert [tuple(x.shape[1:]) for x in image_maps] == [(4, 56, 56), (8, 28, 28), (16, 14, 14)]
    assert [tuple(x.shape[1:]) for x in landmark_maps] == [(4, 28, 28), (8, 14, 14), (16, 7, 7)]


@pytest.mark.parametrize("stride", [1, 2])
def test_the_shortcut_is_the_input_at_every_second_place(stride):
    """Where the width stays and the residual adds nothing."""
    unit = ResidualUnit(4, 4, stride).eval()
    torch.nn.init.zeros_(unit.residual[-1].weight)
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(unit(x), x[:, :, ::stride, ::stride])


def test_a_stage_has_as_many_units_as_it_is_given():
    assert [len(stage) for stage in ImageStream(4, (4, 8, 16), (3, 4, 14)).stages] == [3, 4, 14]
    # one block halves the side, and the residual ones follow it
    assert [len(stage) for stage in LandmarkStream((4, 8, 16), (4, 6, 2)).stages] == [5, 7, 3]


def _gradients(module, x, gradient):
    """(output, gradient of x, gradients of the parameters)."""
    x = x.clone().requires_grad_()
    out = module(x)
    out.backward(gradient)
    return out, x.grad, [parameter.grad for parameter in module.parameters()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 7, 2), (1, 1, 1, 1), (16, 8, 28, 28)])
def test_prelu_is_that_of_torch(dtype, shape):
    x, gradient = torch.randn(2, *shape, dtype=dtype)
    x.flatten()[::3] = 0.0
    ours, theirs = PReLU(shape[1]).to(dtype), nn.PReLU(shape[1]).to(dtype)
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(-0.5, 1.5, shape[1]))
    theirs.load_state_dict(ours.state_dict())
    out, of_x, (of_slopes,) = _gradients(ours, x, gradient)
    expected, expected_of_x, _ = _gradients(theirs, x, gradient)
    assert torch.equal(out, expected)
    assert torch.equal(of_x, expected_of_x)
    exact = (gradient.double() * x.double().clamp(max=0)).sum((0, 2, 3))
    scale = (gradient.double() * x.double().clamp(max=0)).abs().sum((0, 2, 3))
    assert ((of_slopes.double() - exact).abs() <= 2 * torch.finfo(dtype).eps * scale).all()


def test_prelu_under_autocast_is_that_of_torch():
    x, gradient = torch.randn(2, 4, 8, 6, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out, of_x, (of_slopes,) = _gradients(PReLU(8), x, gradient)
        expected, expected_of_x, (expected_of_slopes,) = _gradients(nn.PReLU(8), x, gradient)
    assert torch.equal(out, expected)
    assert torch.equal(of_x, expected_of_x)
    assert of_slopes.dtype == expected_of_slopes.dtype == torch.float32


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_under_autocast_is_computed_in_float32(stride):
    x, gradient = torch.randn(4, 6, 8, 8), torch.randn(4, 6, 8 // stride, 8 // stride)
    module = DepthwiseConv2d(6, 6, 3, stride, 1, groups=6, bias=False)
    out, of_x, (of_weight,) = _gradients(module, x, gradient)
    module.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x), out)
        rounded, also_of_x, (also_of_weight,) = _gradients(module, x.bfloat16(), gradient.bfloat16())
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), out, rtol=0.02, atol=0.02)
    torch.testing.assert_close(also_of_x.float(), of_x, rtol=0.02, atol=0.05)
    torch.testing.assert_close(also_of_weight, of_weight, rtol=0.02, atol=0.2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("stride", "side"), [(1, 6), (2, 6), (2, 7), (3, 7)])
def test_a_shortcut_in_training_is_the_convolution_that_it_is_otherwise(dtype, stride, side):
    x = torch.randn(4, 8, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
    module = ShortcutConv2d(8, 12, stride).to(dtype)
    with torch.no_grad(), Convolutions() as evaluated:
        gradient = torch.randn_like(module.eval()(x))
    with Convolutions() as trained:
        out, of_x, (of_weight,) = _gradients(module.train(), x, gradient)
    assert (evaluated.seen, trained.seen) == ([(8, 1, stride)], [(8, 1, 1)])
    exact = nn.Conv2d(8, 12, 1, stride, bias=False).double()
    exact.load_state_dict(module.state_dict())
    expected = _gradients(exact, x.double().contiguous(), gradient.double())
    rounding = 8 * torch.finfo(dtype).eps
    for ours, theirs in zip((out, of_x, of_weight), (*expected[:2], *expected[2]), strict=True):
        torch.testing.assert_close(
            ours.double(), theirs, rtol=rounding, atol=rounding * theirs.detach().abs().max().item()
        )


@pytest.mark.parametrize("name", ["arbex-nano", "poster-v2-nano", "apvit-nano", "arbex-nano+resizer"])
def test_no_model_trains_a_strided_convolution_of_1x1(name):
    """Whose gradients end the process where oneDNN computes them wrongly, on some CPUs, not at once."""
    model = build_model(name, num_classes=7)
    image = torch.randn(2, 3, model.config.input_size, model.config.input_size)
    for training in (True, False):  # layers learn in evaluation mode too, their statistics do not
        with Convolutions() as computed:
            model.train(training)(image)
        assert computed.seen
        assert not computed.strided_pointwise
    with torch.no_grad(), Convolutions() as computed:
        model(image)
    assert computed.strided_pointwise
