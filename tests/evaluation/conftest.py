"""A small data set, checkpoints, and one report that several files look at."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import default_preprocessing
from edgefel.models.checkpoint import save_checkpoint
from edgefel.models.registry import build_model


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """21 images of which two cannot be read."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split", "subject"))
        for i in range(21):
            cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            writer.writerow((f"{i}.png", EXPRESSIONS_7[i % 7], "test", f"s{i % 3}"))
    (root / "4.png").write_bytes(b"not an image")
    (root / "20.png").unlink()
    return root


@pytest.fixture(scope="session")
def headless(tmp_path_factory) -> Path:
    """A checkpoint of a model without a reliability head."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "headless"
    save_checkpoint(
        folder, build_model("poster-v2-nano"), EXPRESSIONS_7, default_preprocessing(112).to_dict()
    )
    return folder


@pytest.fixture(scope="session")
def evaluated(nano_checkpoint, faces, tmp_path_factory) -> tuple[Result, Path]:
    """What `edgefel evaluate --coverage -o` prints, and the report."""
    report = tmp_path_factory.mktemp("report") / "out"
    words = [nano_checkpoint, "--data", faces, "--coverage", "--workers", 0, "-o", report]
    result = CliRunner().invoke(main, ["evaluate", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result, report
