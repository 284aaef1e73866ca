"""The two streams: maps of three levels, and what a larger image gives them."""

from __future__ import annotations

import pytest
import torch

from edgefel.models.backbones import ImageStream, LandmarkStream, ResidualUnit, to_stream_size


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
