"""The auxiliary classifier: only in training, and outside the saved model."""

from __future__ import annotations

import torch

from edgefel.models import build_model
from edgefel.training.config import LossConfig
from edgefel.training.losses import ReliabilityLoss
from edgefel.training.model import SupervisedModel
from edgefel.training.run_folder import restore_training, training_tensors


def supervised(enabled: bool = True) -> SupervisedModel:
    torch.manual_seed(0)
    return SupervisedModel(build_model("arbex-nano", head={"dropout": 0.0}), enabled)


def test_the_prediction_is_the_models_own():
    wrapped = supervised().eval()
    images = torch.randn(3, 3, 112, 112)
    with torch.no_grad():
        prediction, auxiliary = wrapped(images, ramp=0.3)
        alone = wrapped.model(images, ramp=0.3)
    for name, value in prediction._asdict().items():
        assert torch.equal(value, getattr(alone, name)), name
    torch.testing.assert_close(auxiliary, torch.full((3, 7), 1 / 7))  # it starts without an opinion


def test_disabled_there_is_none():
    wrapped = supervised(enabled=False)
    assert wrapped(torch.randn(2, 3, 112, 112))[1] is None
    assert not [name for name, _ in wrapped.named_parameters() if name.startswith("auxiliary")]


def test_its_loss_reaches_both_streams():
    wrapped = supervised()
    with torch.no_grad():
        wrapped.auxiliary.weight.normal_(std=0.01)
    _, auxiliary = wrapped(torch.randn(4, 3, 112, 112))
    ReliabilityLoss(LossConfig()).classification(auxiliary, torch.tensor([0, 1, 2, 3])).backward()
    for stream in (wrapped.model.encoder.image_stream, wrapped.model.encoder.landmark_stream):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stream.parameters())


def test_the_total_has_its_weighted_loss():
    wrapped = supervised()
    prediction, auxiliary = wrapped(torch.randn(4, 3, 112, 112))
    target = torch.tensor([0, 1, 2, 3])
    anchors = wrapped.model.head.anchors
    without = ReliabilityLoss(LossConfig())(prediction, target, anchors, 0.5)
    terms = ReliabilityLoss(LossConfig(lambda_auxiliary=2.0))(prediction, target, anchors, 0.5, auxiliary)
    torch.testing.assert_close(terms.total, without.total + 2.0 * terms.auxiliary)
    torch.testing.assert_close(
        terms.auxiliary, ReliabilityLoss(LossConfig()).classification(auxiliary, target)
    )
    assert without.auxiliary == 0


def test_while_the_head_waits_only_the_streams_and_the_classifier_learn():
    wrapped = supervised()
    with torch.no_grad():
        wrapped.auxiliary.weight.normal_(std=0.01)
    before = {name: p.detach().clone() for name, p in wrapped.named_parameters()}
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=0.01)
    prediction, auxiliary = wrapped(torch.randn(4, 3, 112, 112), ramp=0.5)
    target, anchors = torch.tensor([0, 1, 2, 3]), wrapped.model.head.anchors
    ReliabilityLoss(LossConfig(lambda_auxiliary=1.0))(
        prediction, target, anchors, 0.5, auxiliary, own=0.0
    ).total.backward()
    optimizer.step()
    moved = {name for name, p in wrapped.named_parameters() if not torch.equal(p, before[name])}
    waiting = ("model.head.", "model.encoder.blocks.", "model.encoder.gate.", "model.encoder.pos_embed")
    assert not [name for name in moved if name.startswith(waiting)]
    assert "auxiliary.weight" in moved
    assert {name for name in before if ".image_stream." in name} <= moved
    assert {name for name in before if ".landmark_stream." in name} <= moved


def test_its_weights_and_optimizer_state_come_back():
    first, second = supervised(), supervised()
    optimizer = torch.optim.Adam(first.parameters(), lr=0.1)
    prediction, auxiliary = first(torch.randn(4, 3, 112, 112))
    (prediction.logits.sum() + auxiliary[:, 0].sum()).backward()
    optimizer.step()
    other = torch.optim.Adam(second.parameters(), lr=0.1)
    restore_training(second, other, training_tensors(first, optimizer))
    assert torch.equal(second.auxiliary.weight, first.auxiliary.weight)
    assert first.auxiliary.weight.abs().sum() > 0
    state, restored = (o.state[m.auxiliary.weight] for o, m in ((optimizer, first), (other, second)))
    assert torch.equal(state["exp_avg"], restored["exp_avg"])
