"""Gradients at odd sizes, of large values, with frozen inputs, and the same on every run."""

from __future__ import annotations

import pytest
import torch

from edgefel.kernels.anchor_softmax.op import anchor_softmax
from edgefel.kernels.anchor_softmax.reference import anchor_softmax as reference


def draw(batch, classes, per_class, width, device, scale=1.0, centre=0.0):
    """An embedding, anchors and a gradient of the result."""
    generator = torch.Generator().manual_seed(batch + 10 * classes + 100 * per_class + 1000 * width)
    shapes = (batch, width), (classes, per_class, width), (batch, classes)
    e, anchors, grad = (torch.randn(*shape, generator=generator).to(device) for shape in shapes)
    return centre + scale * e, centre + scale * anchors, grad


def results(op, e, anchors, grad, delta, needs=("e", "anchors")):
    """The result and the gradients of `needs`, None for the others."""
    leaves = {"e": e.clone(), "anchors": anchors.clone()}
    for name in needs:
        leaves[name].requires_grad_()
    out = op(*leaves.values(), delta)
    out.backward(grad)
    return out.detach(), leaves["e"].grad, leaves["anchors"].grad


def compare(inputs, delta, assert_close, needs=("e", "anchors")):
    expected = results(reference, *(x.double() for x in inputs), delta, needs)
    found = results(anchor_softmax, *inputs, delta, needs)
    for name, out, truth in zip(("out", "e", "anchors"), found, expected, strict=True):
        assert (out is None) == (truth is None), name
        if out is not None:
            assert_close(out, truth, name)


SIZES = [(2, 1, 1), (7, 1, 33), (2, 5, 31), (8, 10, 65)]


@pytest.mark.parametrize(
    ("batch", "classes", "per_class", "width"),
    [*((batch, *sizes) for batch in (1, 2, 63, 64, 65) for sizes in SIZES), (1000, 7, 1, 33)],
)
def test_every_batch_matches_float64(batch, classes, per_class, width, device, assert_close):
    compare(draw(batch, classes, per_class, width, device), 2.0, assert_close)


@pytest.mark.parametrize("per_class", [1, 10])
def test_a_single_class_has_no_slope(per_class, device):
    out, *gradients = results(anchor_softmax, *draw(65, 1, per_class, 33, device), 2.0)
    torch.testing.assert_close(out, torch.ones_like(out))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-6


@pytest.mark.parametrize(("scale", "centre"), [(1e6, 0.0), (1e15, 0.0), (1e-6, 0.0), (1.0, 1e3), (1e3, -1e6)])
def test_large_values_lose_no_difference(scale, centre, device, assert_close):
    """|e|^2 - 2 e a + |a|^2, or a matrix product, would cancel where values are far from 0 and near to each other."""
    compare(draw(65, 7, 10, 33, device, scale, centre), 2.0 * scale, assert_close)


@pytest.mark.parametrize(
    ("needs", "kernels"),
    [(("e",), ["backward_e_kernel"]), (("anchors",), ["backward_e_kernel", "backward_anchors_kernel"])],
    ids=["frozen anchors", "frozen embedding"],
)
def test_only_needed_gradients_are_computed(needs, kernels, device, assert_close, launched):
    compare(draw(65, 7, 3, 40, device), 2.0, assert_close, needs)
    if launched is not None:
        assert launched == ["forward_kernel", *kernels]


def test_a_gradient_does_not_depend_on_whether_the_other_is_needed(device):
    e, anchors, grad = draw(3, 7, 3, 40, device)
    _, distance = torch.ops.edgefel.anchor_softmax(e, anchors, 2.0, True)
    backward = torch.ops.edgefel.anchor_softmax_backward
    none, found = backward(grad, e, anchors, distance, 2.0, False, True)
    assert none.numel() == 0
    assert torch.equal(found, backward(grad, e, anchors, distance, 2.0, True, True)[1])
    found, none = backward(grad, e, anchors, distance, 2.0, True, False)
    assert none.numel() == 0
    assert torch.equal(found, backward(grad, e, anchors, distance, 2.0, True, True)[0])


def test_gradients_have_the_same_bits_every_time(device):
    inputs = draw(130, 7, 10, 33, device)
    first, second = (results(anchor_softmax, *inputs, 2.0) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
