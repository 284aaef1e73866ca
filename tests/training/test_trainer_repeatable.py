"""With several threads too, the same training gives the same bits."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.config import ComputeConfig, TrainConfig
from edgefel.training.loop import resume, train
from edgefel.training.trainer import Trainer


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for label in EXPRESSIONS_7:
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (36, 36, 3), np.uint8))
    return root


def config(faces: Path, model: str, **changes: object) -> TrainConfig:
    compute = ComputeConfig(accelerator="cpu", workers=2)
    base = TrainConfig(model=model, data=str(faces), epochs=2, batch_size=14, per_class=4, compute=compute)
    return base.replaced(changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / json.loads((run / "last.json").read_text())["checkpoint"]
    return load_file(folder / "model.safetensors") | load_file(folder / "training.safetensors")


def assert_same_weights(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


_JUDGED = ("loss_classification", "accuracy")
MODELS = {
    "arbex-nano": {"ema": 0.9, "weight_decay": 0.05, "augment.mixup": 0.2, "augment.cutmix": 1.0},
    "poster-v2-nano": {"compute.precision": "64-true", "ema": 0.5},
    "poster-v2-nano+resizer": {},
    "apvit-nano+reliability": {},
}


@pytest.mark.parametrize("model", MODELS)
def test_two_runs_and_a_resumed_one_are_bit_for_bit_the_same(model, faces, tmp_path):
    changes = MODELS[model] | {"epochs": 1, "checkpoint_every": 1, "keep": 9}
    for name in ("one", "two"):
        train(config(faces, model, **changes), tmp_path / name, quiet=True)
    shutil.copytree(tmp_path / "one", tmp_path / "resumed")
    killed = {"checkpoint": "checkpoints/step-000001", "step": 1, "epoch": 0}
    (tmp_path / "resumed/last.json").write_text(json.dumps(killed))
    resume(tmp_path / "resumed", quiet=True)
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert_same_weights(tmp_path / "one", tmp_path / "resumed")


def test_another_number_of_threads_is_said(faces, tmp_path, capsys):
    train(config(faces, "poster-v2-nano", epochs=1), tmp_path / "run", quiet=True)
    torch.set_num_threads(1)
    resume(tmp_path / "run", {"epochs": 2})
    said = capsys.readouterr().err
    assert "had 2 threads so far and goes on with 1" in said
    assert "OMP_NUM_THREADS=2" in said


def test_what_is_kept_is_the_average(faces, tmp_path):
    changes = {"epochs": 1, "checkpoint_every": 1, "keep": 9, "ema": 0.9}
    train(config(faces, "poster-v2-nano", **changes), tmp_path / "run", quiet=True)
    kept, learning = [], []
    for step in (1, 2):
        folder = tmp_path / f"run/checkpoints/step-{step:06d}"
        kept.append(load_file(folder / "model.safetensors")["head.linear.weight"])
        learning.append(load_file(folder / "training.safetensors")["model.head.linear.weight"])
    share = 1 - 2 / 11
    torch.testing.assert_close(kept[1], kept[0] + share * (learning[1] - kept[0]))
    assert not torch.equal(kept[1], learning[1])


def test_the_average_of_frozen_streams_is_themselves(faces, tmp_path):
    train(config(faces, "poster-v2-nano", epochs=1), tmp_path / "start", quiet=True)
    changes = {"epochs": 1, "ema": 0.9, "init_from": [str(tmp_path / "start")], "freeze_backbones": True}
    train(config(faces, "poster-v2-nano", **changes), tmp_path / "run", quiet=True)
    start, kept = weights(tmp_path / "start"), weights(tmp_path / "run")
    streams = [key for key in start if key.startswith("encoder.") and "_stream." in key]
    assert len(streams) > 50
    assert [key for key in streams if not torch.equal(start[key], kept[key])] == []
    assert not torch.equal(start["encoder.pos_embed"], kept["encoder.pos_embed"])


def test_weights_that_are_not_finite_replace_no_checkpoint(faces, tmp_path, monkeypatch):
    step = Trainer.step

    def and_diverge(self, batch):
        step(self, batch)
        if self.state.step == 2:
            next(self.raw.parameters()).data[0] = float("nan")

    monkeypatch.setattr(Trainer, "step", and_diverge)
    with pytest.raises(EdgefelError, match="has NaN or infinite values: training diverged; start again with"):
        train(config(faces, "poster-v2-nano", checkpoint_every=1), tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run/last.json").read_text())["step"] == 1
    load_checkpoint(tmp_path / "run")


def test_what_is_judged_is_the_mean_since_the_last_validation(faces, tmp_path, capsys):
    """Not the few steps since the last line of metrics.csv, and not the anchor terms, which the ramp raises."""
    changes = {"log_every": 1, "batch_size": 7, "loss.anchor_loss": "hinge"}  # 4 steps an epoch
    train(config(faces, "arbex-nano", **changes), tmp_path / "fine")
    told = capsys.readouterr().err
    train(config(faces, "arbex-nano", **changes | {"log_every": 3}), tmp_path / "coarse", quiet=True)
    with (tmp_path / "fine/metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    epochs = [
        {name: np.mean([float(row[name]) for row in rows[at : at + 4]]) for name in ("loss", *_JUDGED)}
        for at in (0, 4)
    ]
    expected = min(epoch["loss_classification"] for epoch in epochs)
    for run in ("fine", "coarse"):
        (state,) = (tmp_path / run).glob("checkpoints/step-000008/training.json")
        assert json.loads(state.read_text())["lowest_loss"] == pytest.approx(expected, rel=1e-5)
    assert f"loss {epochs[0]['loss']:.3f}  accuracy {epochs[0]['accuracy']:.1%}" in told
