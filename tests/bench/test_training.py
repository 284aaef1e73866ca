"""Speed of training: the real step, the same images for all, and losses that must agree."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from edgefel.bench import training
from edgefel.bench.results import append_results, read_results
from edgefel.bench.timer import TimingPlan
from edgefel.bench.training import (
    Stepper,
    TrainingCase,
    TrainingOptions,
    bench_training,
    check_losses,
    choices,
    peak_memory,
)
from edgefel.errors import EdgefelError

BRIEF = TimingPlan(warmup=0, settle_seconds=0, min_runs=2, seconds=0, max_runs=2)
CPU = torch.device("cpu")
NANO = TrainingOptions("arbex-nano", (2,), accelerator="cpu", memory=False, plan=BRIEF)
FP32 = TrainingCase(2, "fp32", "reference")


@pytest.fixture
def stepper():
    with torch.random.fork_rng(devices=[]):
        yield Stepper(NANO, FP32)


def test_a_step_is_the_trainers_own_and_learns(stepper):
    """Every kind of parameter moves and has Adam's moments: forward, losses, backward and optimizer all ran."""
    trainer = stepper._trainer
    before = {name: value.clone() for name, value in trainer.raw.named_parameters()}
    steps = trainer.state.step
    stepper()
    assert trainer.state.step == steps + 1
    moved = {name for name, value in trainer.raw.named_parameters() if not torch.equal(value, before[name])}
    assert len(moved) > 0.9 * len(before)
    assert len(trainer.optimizer.state) == len(before)
    assert trainer.raw.training


def test_a_loss_that_is_no_number_is_no_result(stepper):
    with torch.no_grad():
        next(stepper._trainer.raw.parameters()).fill_(float("nan"))
    stepper()
    with pytest.raises(EdgefelError, match="no longer finite"):
        stepper.check()


def test_rows_of_two_precisions_take_turns(tmp_path, monkeypatch):
    order, steps = [], []
    call = Stepper.__call__
    monkeypatch.setattr(
        Stepper, "__call__", lambda self: order.append(self._trainer.config.compute.precision) or call(self)
    )
    options = TrainingOptions("arbex-nano", (2,), ("fp32", "bf16"), None, "cpu", 1, BRIEF, memory=False)
    threads = torch.get_num_threads()
    rows = bench_training(options, lambda step, share: steps.append(share))
    assert torch.get_num_threads() == threads
    # the first step of each is the one whose losses are compared
    assert order == ["32-true", "bf16-mixed"] * 3
    assert steps[-1] == 1.0
    plain, mixed = rows
    assert plain.subject == {
        "model": "arbex-nano",
        "precision": "fp32",
        "backend": "pytorch",
        "batch": 2,
        "threads": 1,
        "attention": "reference",
        "accelerator": "cpu",
    }
    assert "ratio" not in plain.metrics
    assert mixed.metrics["ratio"]["to"] == "fp32 reference"
    for row in rows:
        assert row.metrics["images_per_s"] == pytest.approx(2e3 / row.metrics["latency_ms"]["p50"])
        assert "no GPU: the fused kernels do not run here, and the reference stands alone" in row.notes
    append_results(tmp_path / "rows.jsonl", rows)
    assert read_results(tmp_path / "rows.jsonl").rows == rows


def test_the_path_from_files_is_a_number_of_its_own(faces_folder):
    options = dataclasses.replace(NANO, data=faces_folder)
    (row,) = bench_training(options)
    assert row.metrics["images_per_s_from_files"] > 0


def test_files_are_read_in_balanced_epochs_without_end(faces_folder):
    options = dataclasses.replace(NANO, data=faces_folder)
    with torch.random.fork_rng(devices=[]):
        stepper = Stepper(options, FP32)
    stepper._size = 8
    epoch = len(stepper._files.sampler) // 8
    loader = stepper._read()
    batches = [next(loader) for _ in range(epoch + 2)]
    assert {len(batch.pixels) for batch in batches} == {8}
    assert not torch.equal(batches[0].indices, batches[epoch].indices)
    stepper._size = 10**6
    with pytest.raises(EdgefelError, match="fewer than one batch of 1000000"):
        next(stepper._read())


@pytest.mark.slow
def test_peak_memory_grows_with_the_batch_and_holds_weights_gradients_and_moments():
    small, large = (peak_memory(NANO, TrainingCase(batch, "fp32", "reference"), CPU) for batch in (2, 12))
    assert 150 < small < large < 4000


def test_kernels_are_taken_where_they_run(monkeypatch):
    monkeypatch.setattr(training, "TRITON_INSTALLED", True)
    assert choices(None, CPU) == ("reference",)
    assert choices(None, torch.device("cuda")) == ("reference", "triton")
    monkeypatch.setattr(training, "TRITON_INSTALLED", False)
    assert choices(None, torch.device("cuda")) == ("reference",)
    assert choices(("auto", "reference", "auto"), CPU) == ("auto", "reference")


def test_kernels_that_cannot_run_are_an_error(monkeypatch):
    monkeypatch.setattr("edgefel.kernels.backend.interpreting", lambda: False)
    with pytest.raises(EdgefelError, match="needs a CUDA device"):
        choices(("triton",), CPU)


@pytest.mark.parametrize(
    ("precision", "attention", "loss", "fine"),
    [
        ("fp32", "triton", 2.0001, True),
        ("fp32", "triton", 2.01, False),
        ("bf16", "reference", 2.05, True),
        ("bf16", "triton", 2.2, False),
        ("fp32", "triton", float("nan"), False),
    ],
)
def test_losses_must_agree(precision, attention, loss, fine):
    losses = {TrainingCase(2, precision, attention): loss, FP32: 2.0}
    if fine:
        check_losses(losses)
    else:
        with pytest.raises(EdgefelError, match=f"{precision} {attention}, batch 2: .*nothing was timed"):
            check_losses(losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "magic"}, "magic"),
        ({"batches": (1,)}, "at least 2"),
        ({"batches": ()}, "batches none"),
        ({"precisions": ("int8",)}, "precision 'int8' is not known"),
        ({"precisions": ()}, "no precision"),
        ({"attentions": ("fast",)}, "attention 'fast' is not known"),
        ({"threads": 0}, "threads 0: give numbers of at least 1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(EdgefelError, match=message):
        TrainingOptions(**options)
