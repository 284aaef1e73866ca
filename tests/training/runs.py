"""Runs of a small model on a few images, and what is compared of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.training.config import ComputeConfig, LossConfig, TrainConfig


def write_faces(root: Path, *, broken: tuple[int, ...] = (), labels=EXPRESSIONS_7, val: bool = True) -> Path:
    """28 images to train on and 7 to validate; the numbers in `broken` cannot be read."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split", "subject", *(f"soft_{name}" for name in labels)))
        for i in range(35 if val else 28):
            path = root / f"{i}.png"
            colour = np.random.default_rng(i % len(labels)).integers(0, 256, 3)
            noisy = colour + rng.normal(0, 20, (36, 36, 3))
            cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8))
            if i in broken:
                path.write_bytes(b"no image")
            soft = [0.7 if c == i % len(labels) else 0.3 / (len(labels) - 1) for c in range(len(labels))]
            split = "train" if i < 28 else "val"
            writer.writerow((path.name, labels[i % len(labels)], split, f"s{i % 5}", *soft))
    return root


def config(faces: Path, **changes) -> TrainConfig:
    base = TrainConfig(
        model="poster-v2-nano",
        data=str(faces),
        epochs=2,
        batch_size=4,  # an epoch of 14 images has 3 steps; the last 2 images are dropped
        per_class=2,
        lr=1e-3,
        log_every=2,
        warmup_steps=2,
        clip_norm=1.0,
        loss=LossConfig(lambda_auxiliary=1.0, auxiliary_steps=1),
        compute=ComputeConfig(accelerator="cpu", workers=0),
    )
    return base.replaced(changes)


FLAGS = ["--model", "poster-v2-nano", "--epochs", 2, "--batch-size", 4, "--per-class", 2, "--lr", 1e-3]
FLAGS += ["--log-every", 2, "--accelerator", "cpu", "--workers", 0]
FLAGS += ["--warmup-steps", 2, "--clip-norm", 1.0, "--lambda-auxiliary", 1.0, "--auxiliary-steps", 1]


def cli(*arguments: object):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock."""
    with (run / "metrics.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        del line["seconds"], line["images_per_second"]
    return lines


def tensors(run: Path, pointer: str = "last.json") -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a checkpoint of a run."""
    folder = run / json.loads((run / pointer).read_text())["checkpoint"]
    optimizer = load_file(folder / "training.safetensors")
    return load_file(folder / "model.safetensors") | {f"optimizer {k}": v for k, v in optimizer.items()}


def assert_same_run(one: Path, two: Path) -> None:
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    assert any(key.startswith("optimizer") for key in first)
    for key in first:
        assert torch.equal(first[key], second[key]), key
    assert rows(one) == rows(two)
    for pointer in ("last.json", "best.json"):
        assert json.loads((one / pointer).read_text()) == json.loads((two / pointer).read_text())
