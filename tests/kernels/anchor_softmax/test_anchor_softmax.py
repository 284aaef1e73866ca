"""The Triton op, forward and every gradient, against the reference in float64."""

from __future__ import annotations

import pytest
import torch

from edgefel.kernels.anchor_softmax.op import anchor_softmax, launch_sizes
from edgefel.kernels.anchor_softmax.reference import anchor_softmax as reference


def draw(batch, classes, per_class, width, device, dtype=torch.float32):
    generator = torch.Generator().manual_seed(batch + classes + per_class + width)
    e = torch.randn(batch, width, generator=generator).to(dtype).to(device)
    anchors = torch.randn(classes, per_class, width, generator=generator).to(dtype).to(device)
    return e, anchors, torch.randn(batch, classes, generator=generator).to(device)


def results(op, e, anchors, delta, grad):
    e, anchors = e.clone().requires_grad_(), anchors.clone().requires_grad_()
    out = op(e, anchors, delta)
    return out, *torch.autograd.grad(out, (e, anchors), grad)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("classes", "per_class", "width"),
    [
        (7, 1, 100),
        (7, 3, 100),
        (7, 10, 100),
        (8, 1, 128),
        (8, 3, 128),
        (7, 10, 128),
        (8, 3, 768),
        (7, 10, 768),
    ],
)
def test_forward_and_gradients_match_float64(batch, classes, per_class, width, device, assert_close):
    e, anchors, grad = draw(batch, classes, per_class, width, device)
    expected = results(reference, e.double(), anchors.double(), 2.0, grad.double())
    found = results(anchor_softmax, e, anchors, 2.0, grad)
    for name, out, truth in zip(("out", "e", "anchors"), found, expected, strict=True):
        assert_close(out, truth, name)
    torch.testing.assert_close(found[0].sum(1), torch.ones(batch, device=device))


@pytest.mark.parametrize(("classes", "per_class", "width"), [(32, 32, 64), (7, 3, 1024)])
def test_the_largest_sizes_fit(classes, per_class, width, device, assert_close):
    e, anchors, grad = draw(1, classes, per_class, width, device)
    expected = results(reference, e.double(), anchors.double(), 10.0, grad.double())
    found = results(anchor_softmax, e, anchors, 10.0, grad)
    for name, out, truth in zip(("out", "e", "anchors"), found, expected, strict=True):
        assert_close(out, truth, name)


@pytest.mark.parametrize(
    ("classes", "per_class", "width"), [(7, 10, 128), (1, 1, 1), (33, 31, 1024), (1024, 1, 3)]
)
def test_a_tile_holds_all_anchors_in_few_registers(classes, per_class, width):
    sizes = launch_sizes(classes, per_class, width)
    assert sizes["BLOCK_C"] >= classes
    assert sizes["BLOCK_K"] >= per_class
    assert sizes["BLOCK_C"] * sizes["BLOCK_K"] * sizes["BLOCK_E"] <= 32 * 32 * sizes["num_warps"]


def test_order_of_the_anchors_of_a_class_does_not_matter(device):
    e, anchors, _ = draw(3, 7, 10, 100, device)
    shuffled = anchors[:, torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(anchor_softmax(e, shuffled, 1.0), anchor_softmax(e, anchors, 1.0))


def test_gradient_is_finite_when_the_embedding_is_an_anchor(device, assert_close):
    e, anchors, grad = draw(2, 7, 3, 100, device)
    e[1] = anchors[4, 2]
    expected = results(reference, e.double(), anchors.double(), 1.5, grad.double())
    found = results(anchor_softmax, e, anchors, 1.5, grad)
    for name, out, truth in zip(("out", "e", "anchors"), found, expected, strict=True):
        assert_close(out, truth, name)


def test_far_anchors_do_not_underflow_to_nothing(device, assert_close):
    e, anchors, _ = draw(2, 7, 3, 128, device)
    expected = reference(1000 * e.double(), 1000 * anchors.double(), 1.0)
    assert_close(anchor_softmax(1000 * e, 1000 * anchors, 1.0), expected, "out")


def test_half_precision_is_summed_in_fp32(device, assert_close):
    e, anchors, _ = draw(2, 7, 10, 768, device, torch.float16)
    out = anchor_softmax(30 * e, 30 * anchors, 20.0)  # a sum of squares near 1e6 overflows FP16
    assert out.dtype == torch.float32
    assert_close(out, reference((30 * e).double(), (30 * anchors).double(), 20.0), "out")


def test_strided_inputs_give_the_same(device):
    e, anchors, _ = draw(3, 7, 3, 100, device)
    wide = torch.cat([e, e], 1)[:, ::2], anchors.transpose(0, 1).contiguous().transpose(0, 1)
    same = torch.cat([e, e], 1)[:, ::2].contiguous(), anchors
    assert torch.equal(anchor_softmax(*wide, 1.0), anchor_softmax(*same, 1.0))


def test_nan_stays_in_its_row(device):
    e, anchors, _ = draw(3, 7, 10, 32, device)
    clean = anchor_softmax(e, anchors, 1.0)
    e[1, 5] = float("nan")
    out = anchor_softmax(e, anchors, 1.0)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], clean[[0, 2]])


def test_an_empty_batch_is_no_error(device):
    e, anchors, grad = draw(0, 7, 3, 32, device)
    out, grad_e, grad_anchors = results(anchor_softmax, e, anchors, 1.0, grad)
    assert out.shape == (0, 7)
    assert grad_e.shape == (0, 32)
    assert torch.equal(grad_anchors, torch.zeros_like(anchors))


@pytest.mark.parametrize(
    ("argument", "e", "anchors", "delta"),
    [
        ("e", torch.zeros(2, 3, 4), torch.zeros(7, 3, 4), 1.0),
        ("anchors", torch.zeros(2, 4), torch.zeros(7, 3, 5), 1.0),
        ("anchors", torch.zeros(2, 4), torch.zeros(7, 147, 4), 1.0),
        ("anchors", torch.zeros(2, 4), torch.zeros(7, 0, 4), 1.0),
        ("anchors", torch.zeros(2, 1025), torch.zeros(7, 1, 1025), 1.0),
        ("e", torch.zeros(2, 4, dtype=torch.float64), torch.zeros(7, 3, 4), 1.0),
        ("anchors", torch.zeros(2, 4), torch.zeros(7, 3, 4, device="meta"), 1.0),
        ("delta", torch.zeros(2, 4), torch.zeros(7, 3, 4), 0.0),
    ],
)
def test_what_does_not_fit_is_named_before_any_launch(argument, e, anchors, delta, device):
    anchors = anchors if anchors.is_meta else anchors.to(device)
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        anchor_softmax(e.to(device), anchors, delta)


def test_the_operator_keeps_pytorchs_rules(device):
    e, anchors, _ = draw(2, 3, 2, 5, device)
    torch.library.opcheck(
        torch.ops.edgefel.anchor_softmax.default, (e.requires_grad_(), anchors.requires_grad_(), 1.0, True)
    )
