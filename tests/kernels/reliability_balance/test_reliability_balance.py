"""The fused head arithmetic against its reference in float64, and the reference against the model's head."""

from __future__ import annotations

import math

import pytest
import torch

from edgefel.kernels.reliability_balance.op import reliability_balance
from edgefel.kernels.reliability_balance.reference import confidence
from edgefel.kernels.reliability_balance.reference import reliability_balance as reference
from edgefel.models.config import ReliabilityConfig
from edgefel.models.reliability import ReliabilityHead


def draw(batch, classes, per_class, width, device, attentive=True):
    generator = torch.Generator().manual_seed(classes + per_class + width)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(device)

    anchors = normal(classes, per_class, width) if per_class else None
    logits, e = 2 * normal(batch, classes), normal(batch, width)
    return logits, e, anchors, normal(batch, classes) if attentive else None


def double(x):
    return None if x is None else x.double()


@pytest.mark.parametrize("attentive", [False, True])
@pytest.mark.parametrize(
    ("batch", "classes", "per_class", "width"),
    [*((3, classes, per_class, 100) for classes in (2, 7, 8) for per_class in (0, 1, 3, 10)),
     (1, 7, 10, 100), (1, 7, 10, 768), (3, 8, 3, 768)],
)  # fmt: skip
def test_matches_float64(batch, classes, per_class, attentive, width, device, assert_close):
    arguments = draw(batch, classes, per_class, width, device, attentive)
    found = reliability_balance(*arguments, 3.0)
    expected = reference(*(double(x) for x in arguments), 3.0)
    for name in ("probabilities", "primary"):
        out = getattr(found, name)
        assert_close(out, getattr(expected, name), name)
        torch.testing.assert_close(out.sum(1), torch.ones(batch, device=device))
    # 1 - H cancels: its error is that of a sum of about 1
    torch.testing.assert_close(found.confidence.double(), expected.confidence, rtol=0, atol=2e-6)


def test_the_head_gives_what_the_reference_gives():
    torch.manual_seed(0)
    head = ReliabilityHead(96, 7, ReliabilityConfig(embedding_dim=64)).eval()
    embedding = torch.randn(5, 96)
    prediction = head(embedding, torch.zeros(5, 1, 96))
    attended = head.attentive(prediction.embedding, prediction.embedding.unsqueeze(1))
    balanced = reference(prediction.logits, prediction.embedding, head.anchors, attended, head.config.delta)
    assert torch.equal(prediction.probabilities, balanced.probabilities)
    assert torch.equal(prediction.confidence, balanced.confidence)
    assert torch.equal(prediction.primary, balanced.primary)


def test_uniform_distributions_on_both_sides_give_their_plain_mean(device):
    logits = torch.zeros(2, 7, device=device)
    out = reliability_balance(logits, torch.zeros(2, 4, device=device), None, logits, 1.0)
    torch.testing.assert_close(out.probabilities, torch.full((2, 7), 1 / 7, device=device))
    torch.testing.assert_close(out.confidence, torch.zeros(2, device=device), atol=1e-6, rtol=0)


def test_certainty_has_confidence_one_and_wins(device):
    logits = torch.tensor([[200.0, 0, 0, 0]], device=device)
    out = reliability_balance(
        logits, torch.zeros(1, 4, device=device), None, torch.zeros(1, 4, device=device), 1.0
    )
    assert out.probabilities.tolist() == [[1, 0, 0, 0]]
    assert out.confidence.item() == 1.0


def test_confidence_is_one_minus_normalised_entropy():
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert math.isclose(confidence(p).item(), 0.5, abs_tol=1e-6)


def test_nan_stays_in_its_row(device):
    arguments = draw(3, 7, 3, 32, device)
    clean = reliability_balance(*arguments, 1.0)
    arguments[1][1, 5] = float("nan")
    out = reliability_balance(*arguments, 1.0)
    assert out.probabilities[1].isnan().all()
    assert out.confidence[1].isnan()
    for name in out._fields:
        assert torch.equal(getattr(out, name)[[0, 2]], getattr(clean, name)[[0, 2]])


def test_half_precision_inputs_are_widened(device, assert_close):
    arguments = [None if x is None else x.half() for x in draw(2, 7, 10, 768, device)]
    out = reliability_balance(*arguments, 5.0)
    assert out.probabilities.dtype == torch.float32
    assert_close(
        out.probabilities, reference(*(double(x) for x in arguments), 5.0).probabilities, "probabilities"
    )


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("logits", {"logits": torch.zeros(2, 1)}),
        ("e", {"e": torch.zeros(3, 5)}),
        ("anchors", {"anchors": torch.zeros(6, 3, 5)}),
        ("anchors", {"anchors": torch.zeros(7, 3, 4)}),
        ("anchors", {"anchors": torch.zeros(7, 147, 5)}),
        ("attentive_logits", {"attentive_logits": torch.zeros(2, 6)}),
        ("attentive_logits", {"attentive_logits": torch.zeros(2, 7, dtype=torch.float64)}),
        ("delta", {"delta": -1.0}),
        ("delta", {"delta": 0.0, "anchors": None}),
    ],
)
def test_what_does_not_fit_is_named_before_any_launch(argument, changes, device):
    logits, e, anchors, attentive = draw(2, 7, 3, 5, device)
    good = {"logits": logits, "e": e, "anchors": anchors, "attentive_logits": attentive, "delta": 1.0}
    changes = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in changes.items()}
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        reliability_balance(**(good | changes))


def test_the_operator_keeps_pytorchs_rules(device):
    logits, e, anchors, _ = draw(2, 3, 2, 5, device)
    torch.library.opcheck(torch.ops.edgefel.reliability_balance.default, (logits, e, anchors, None, 1.0))
