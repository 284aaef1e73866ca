"""Learning rates, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch

from edgefel.errors import EdgefelError
from edgefel.models import build_model
from edgefel.training.config import TrainConfig
from edgefel.training.optimization import WeightAverage, learning_rate, make_optimizer


def test_warm_up_rises_to_the_rate_and_epochs_lower_it():
    config = TrainConfig(lr=1e-2, lr_decay=0.5, warmup_steps=4)
    assert [learning_rate(config, 0, step, 500) for step in range(5)] == pytest.approx(
        [0.0025, 0.005, 0.0075, 0.01, 0.01]
    )
    assert learning_rate(config, 2, 100, 500) == pytest.approx(0.0025)
    assert learning_rate(TrainConfig(lr=1e-2), 0, 0, 500) == pytest.approx(0.01)


def test_a_cosine_goes_from_the_rate_to_zero():
    config = TrainConfig(lr=1e-3, lr_schedule="cosine")
    rates = [learning_rate(config, 0, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[50] == pytest.approx(5e-4)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(config, 0, 150, 100) == rates[100]
    warm = TrainConfig(lr=1e-3, lr_schedule="cosine", warmup_steps=10)
    assert learning_rate(warm, 0, 0, 100) == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["arbex-nano", "apvit-nano"])
def test_matrices_and_kernels_alone_decay(name):
    model = build_model(name)
    config = TrainConfig(optimizer="sgd", lr=1e-3, weight_decay=5e-4)
    optimizer = make_optimizer(config, model.named_parameters())
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (5e-4, 0.0)
    assert {decayed["momentum"], kept["momentum"]} == {0.9}
    weights = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.MultiheadAttention)
    }
    assert {id(p) for p in decayed["params"]} == weights
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_weight_decay_of_adamw_does_not_pass_through_the_gradient():
    """Coupled to it, 0.01 kept a network at one class for a thousand steps: where gradients are small, Adam makes the
    decay as large as any other step."""
    weight = torch.nn.Parameter(torch.full((2, 2), 2.0))
    optimizer = make_optimizer(TrainConfig(lr=0.1, weight_decay=0.01), [("weight", weight)])
    weight.grad = torch.zeros(2, 2)
    optimizer.step()
    assert weight.detach().flatten().tolist() == pytest.approx([2.0 * (1 - 0.1 * 0.01)] * 4)


def test_the_average_forgets_its_first_weights_soon_and_follows_the_statistics():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    average = WeightAverage(model, 0.9)
    expected = model[0].weight.item()
    for step in range(40):
        with torch.no_grad():
            model[0].weight.fill_(float(step))
            model[1].running_mean.fill_(float(step))
        average.update(step)
        share = 1 - min(0.9, (1 + step) / (10 + step))
        expected += share * (step - expected)
        assert average.model[0].weight.item() == pytest.approx(expected)
    assert average.model[1].running_mean.item() == pytest.approx(expected, abs=0.02)
    model[1].num_batches_tracked += 3
    average.update(40)
    assert average.model[1].num_batches_tracked == 3
    assert not average.model.training
    assert model.training


def test_a_resizer_has_a_rate_of_its_own():
    model = build_model("apvit-nano+resizer")
    config = TrainConfig(weight_decay=5e-4, resizer_lr=0.1)
    groups = make_optimizer(config, model.named_parameters()).param_groups
    resizer = {id(p) for p in model.resizer.parameters()}
    assert [(g["weight_decay"], g["lr_factor"]) for g in groups] == [
        (5e-4, 1.0),
        (5e-4, 0.1),
        (0.0, 1.0),
        (0.0, 0.1),
    ]
    assert {id(p) for group in groups if group["lr_factor"] == 0.1 for p in group["params"]} == resizer
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    # as many groups as are needed
    assert len(make_optimizer(TrainConfig(), model.named_parameters()).param_groups) == 1


def test_one_step_is_that_of_the_formula():
    weight = torch.nn.Parameter(torch.tensor([[2.0]]))
    config = TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.01)
    optimizer = make_optimizer(config, [("weight", weight)])
    velocity, expected = 0.0, 2.0
    for _ in range(3):
        weight.grad = torch.tensor([[1.0]])
        optimizer.step()
        velocity = 0.5 * velocity + 1.0 + 0.01 * expected
        expected -= 0.1 * velocity
    assert weight.item() == pytest.approx(expected)


def test_what_is_frozen_is_left_out_and_adamw_is_the_default():
    model = build_model("apvit-nano")
    model.encoder.image_stream.requires_grad_(False)
    optimizer = make_optimizer(TrainConfig(), model.named_parameters())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert len(optimizer.param_groups) == 1
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for p in optimizer.param_groups[0]["params"]) == learning


@pytest.mark.parametrize(
    "values", [{"optimizer": "lion"}, {"lr_schedule": "step"}, {"weight_decay": -1}, {"momentum": math.inf}]
)
def test_impossible_settings(values):
    with pytest.raises(EdgefelError, match=next(iter(values))):
        TrainConfig(**values)
