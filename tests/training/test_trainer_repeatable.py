"""With several threads too, the same training gives the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.training.config import ComputeConfig, TrainConfig
from edgefel.training.loop import resume, train


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


MODELS = {
    "arbex-nano": {"ema": 0.9, "weight_decay": 0.05, "augment.mixup": 0.2, "augment.cutmix": 1.0},
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
