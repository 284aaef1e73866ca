"""Whole networks: sizes, independence of images, tracing."""

from __future__ import annotations

import pytest
import torch

from edgefel.models import build_model, model_config
from edgefel.models.profile import profile


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
    # one block per stage: what is traced is the same, and it takes a third of the time
    encoder = {"image_units": (1, 1, 1), "landmark_units": (1, 1, 1), "depth": 1}
    model = build_model(name, encoder=encoder).eval()
    batch = torch.export.Dim("N", min=1, max=64)
    program = torch.export.export(
        model, (torch.randn(2, 3, 112, 112),), dynamic_shapes=({0: batch}, None)[:1]
    )
    images = torch.randn(5, 3, 112, 112)
    with torch.no_grad():
        for traced, eager in zip(program.module()(images), model(images), strict=True):
            torch.testing.assert_close(traced, eager)
