"""The reliability balancing head against the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgefel.errors import EdgefelError
from edgefel.models.config import ReliabilityConfig
from edgefel.models.reliability import AttentiveCorrection, ReliabilityHead, confidence, weighted_mean
from edgefel.training.config import LossConfig
from edgefel.training.losses import ReliabilityLoss


def entropy_confidence(p: np.ndarray) -> float:
    return 1.0 + sum(x * math.log(x) for x in p if x > 0) / math.log(len(p))


def head(**settings: object) -> ReliabilityHead:
    torch.manual_seed(0)
    module = ReliabilityHead(96, 7, ReliabilityConfig(**({"embedding_dim": 64} | settings)))
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module.double().eval()


def inputs(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 96, generator=generator, dtype=torch.float64),
        torch.randn(batch, 148, 96, generator=generator, dtype=torch.float64),
    )


def test_confidence_of_certain_uniform_and_other_distributions():
    p = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    expected = [1.0, 0.0, entropy_confidence(p[2].numpy())]
    np.testing.assert_allclose(confidence(p).numpy(), expected, atol=1e-12)


def test_confidence_has_a_finite_gradient_at_zero_probability():
    p = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    confidence(p).backward()
    assert torch.isfinite(p.grad).all()


def test_weighted_mean_and_its_fallback():
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    q = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    out = weighted_mean(p, q, torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]), 1.0)
    torch.testing.assert_close(out, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))


def test_the_formulas_written_out():
    module = head()
    embedding, tokens = inputs()
    out = module(embedding, tokens)
    e = module.reduce(embedding).detach().numpy()
    np.testing.assert_allclose(out.embedding.detach().numpy(), e)
    attentive = module.attentive
    for row in range(len(e)):
        logits = out.logits[row].detach().numpy()
        primary = np.exp(logits) / np.exp(logits).sum()
        distance = np.linalg.norm(module.anchors.detach().numpy() - e[row], axis=-1)
        geometric = (np.exp(-distance) / np.exp(-distance).sum()).sum(axis=1)
        # one token: its attention weight is 1, so the branch is W_c (W_o (W_v e))
        hidden = attentive.project(attentive.value(torch.from_numpy(e[row])))
        attended = attentive.to_logits(hidden).softmax(-1).detach().numpy()
        c_g, c_a = entropy_confidence(geometric), entropy_confidence(attended)
        corrected = (c_g * geometric + c_a * attended) / (c_g + c_a)
        c_l, c_t = entropy_confidence(primary), entropy_confidence(corrected)
        final = (c_l * primary + c_t * corrected) / (c_l + c_t)
        np.testing.assert_allclose(out.primary[row].detach().numpy(), primary, atol=1e-12)
        np.testing.assert_allclose(out.probabilities[row].detach().numpy(), final, atol=1e-12)
        np.testing.assert_allclose(
            out.confidence[row].detach().numpy(), entropy_confidence(final), atol=1e-12
        )


@pytest.mark.parametrize("tokens", ["embedding", "patches"])
@pytest.mark.parametrize("settings", [{}, {"anchors_per_class": 0}, {"attentive": False}])
def test_rows_sum_to_one_with_any_branch_missing(settings, tokens):
    out = head(attention_tokens=tokens, **settings)(*inputs())
    torch.testing.assert_close(out.probabilities.sum(-1), torch.ones(5, dtype=torch.float64))
    assert not torch.equal(out.probabilities, out.primary)


def test_without_branches_nothing_is_corrected():
    out = head(anchors_per_class=0, attentive=False)(*inputs())
    assert torch.equal(out.probabilities, out.primary)


def test_trust_scales_the_correction_from_none_to_full():
    module, (embedding, tokens) = head(), inputs()
    none, half, full = (module(embedding, tokens, ramp).probabilities for ramp in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, module(embedding, tokens).primary)
    assert ((half - none).abs().sum(-1) < (full - none).abs().sum(-1)).all()


@pytest.mark.parametrize("tokens", ["embedding", "patches"])
def test_a_prediction_does_not_depend_on_its_batch_mates(tokens):
    module, (embedding, patch_tokens) = head(attention_tokens=tokens), inputs()
    together = module(embedding, patch_tokens)
    for row in range(5):
        alone = module(embedding[row : row + 1], patch_tokens[row : row + 1])
        for name in together._fields:
            torch.testing.assert_close(getattr(together, name)[row : row + 1], getattr(alone, name), msg=name)


def test_patches_use_the_tokens_and_embedding_does_not():
    embedding, tokens = inputs()
    for kind, changes in (("embedding", False), ("patches", True)):
        module = head(attention_tokens=kind)
        same = torch.equal(
            module(embedding, tokens).probabilities, module(embedding, tokens * 2).probabilities
        )
        assert same is not changes


def test_folding_single_token_attention_is_exact():
    module, (embedding, tokens) = head(), inputs()
    before = module(embedding, tokens)
    module.fold_attention()
    torch.testing.assert_close(
        module(embedding, tokens).probabilities, before.probabilities, atol=1e-14, rtol=1e-13
    )
    assert module.folded is not None


def test_patches_are_never_folded():
    module = head(attention_tokens="patches")
    module.fold_attention()
    assert module.folded is None


def test_attention_over_patches_matches_torch():
    torch.manual_seed(0)
    module = AttentiveCorrection(128, 64, 7)
    e, tokens = torch.randn(3, 128), torch.randn(3, 148, 128)
    weight = torch.cat([module.query.weight, module.key.weight, module.value.weight])
    bias = torch.cat([module.query.bias, module.key.bias, module.value.bias])
    torch_attention = torch.nn.MultiheadAttention(128, 2, batch_first=True)
    torch_attention.load_state_dict(
        {
            "in_proj_weight": weight,
            "in_proj_bias": bias,
            "out_proj.weight": module.project.weight,
            "out_proj.bias": module.project.bias,
        }
    )
    expected, _ = torch_attention(e[:, None], tokens, tokens)
    torch.testing.assert_close(module(e, tokens), module.to_logits(expected[:, 0]), atol=1e-5, rtol=1e-5)


def test_hidden_layer_order_follows_the_release_or_the_paper():
    paper, release = head(), head(norm_first=True)
    names = [type(layer).__name__ for layer in paper.classifier[:4]]
    assert names == ["Linear", "ReLU", "Dropout", "BatchNorm1d"]
    assert [type(layer).__name__ for layer in release.classifier[:4]] == [
        "Linear",
        "ReLU",
        "BatchNorm1d",
        "Dropout",
    ]


def test_no_reduction_when_the_embedding_keeps_its_width():
    assert isinstance(head(embedding_dim=96, attentive=False).reduce, torch.nn.Identity)


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_dim": 100},
        {"delta": 0},
        {"anchors_per_class": -1},
        {"dropout": 1.0},
        {"attention_tokens": "x"},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(EdgefelError, match="model config"):
        ReliabilityConfig(**settings)


def test_any_module_can_have_the_head():
    """The three lines of docs/models.md, and a few steps of training with them."""
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.Flatten(), torch.nn.Linear(392, 32)
    )
    module = ReliabilityHead(width=32, num_classes=3, config=ReliabilityConfig(dropout=0.0))
    images = torch.randn(48, 3, 28, 28)
    target = torch.arange(48) % 3
    images += target[:, None, None, None]
    optimizer = torch.optim.Adam([*backbone.parameters(), *module.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        terms = ReliabilityLoss(LossConfig())(module(backbone(images)), target, module.anchors)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(terms.classification.item())
    assert losses[-1] < 0.7 * losses[0]
    prediction = module.eval()(backbone(images))
    assert prediction.probabilities.shape == (48, 3)
    assert (prediction.probabilities.argmax(1) == target).float().mean() > 0.9


def test_attention_to_patches_wants_patches():
    embedding, tokens = inputs()
    assert head(attention_tokens="patches")(embedding, tokens).probabilities.shape == (5, 7)
    with pytest.raises(ValueError, match="needs the encoder's tokens"):
        head(attention_tokens="patches")(embedding)
    assert torch.equal(head()(embedding).probabilities, head()(embedding, tokens).probabilities)
