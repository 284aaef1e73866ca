"""Degraded copies, the choice of a threshold, and curves of accuracy over coverage; the network is a stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgefel.bench.experiments import quality_coverage as bench
from edgefel.bench.experiments.quality_coverage import DEGRADATIONS, WHOLE, Judged
from edgefel.data.preprocessing import default_preprocessing
from edgefel.runtime.quality import DEFAULT_LEAST, Quality

ROOT = Path(__file__).resolve().parents[3]


def quality(size: float, contrast: float = 1.0) -> Quality:
    return Quality(size, None, contrast, 1.0, 1.0, 1.0)


def judged(*faces: tuple[float, float]) -> Judged:
    """(quality, accuracy) of 100 faces each."""
    right = np.concatenate([np.arange(100) < 100 * accuracy for _, accuracy in faces])
    qualities = tuple(quality(size) for size, _ in faces for _ in range(100))
    return Judged(right, np.ones(len(right)), qualities)


def test_the_threshold_is_where_half_is_kept_from_there_on():
    ways = {WHOLE: judged((1.0, 0.9)), "worse": judged((0.2, 0.3), (0.42, 0.55), (0.52, 0.75))}
    # half of what is between guessing (0.3) and 0.9 is 0.6
    assert bench.choose(ways, 0.3) == 0.5
    assert bench.choose({WHOLE: judged((1.0, 0.9))}, 0.3) == 0.0


def test_faces_of_equal_score_are_in_as_their_mean():
    right = np.array([True, False, True, False])
    points = bench.curve(np.array([0.9, 0.5, 0.5, 0.1]), right, points=4)
    assert points == [(0.25, 1.0), (0.5, 0.75), (0.75, 0.6667), (1.0, 0.5)]


def test_the_product_counts_each_part():
    one = Judged(np.array([True]), np.ones(1), (quality(0.5, 0.4),))
    assert (one.overall[0], one.product[0]) == (0.4, pytest.approx(0.2))


@pytest.mark.parametrize("way", DEGRADATIONS)
def test_a_copy_is_an_image_and_the_original_is_kept(way):
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    before = image.copy()
    copy = DEGRADATIONS[way](image, np.random.default_rng(0))
    assert np.array_equal(image, before)
    assert (copy.dtype, copy.shape[2]) == (np.uint8, 3)
    assert np.array_equal(copy, image) == (way == WHOLE)


@pytest.fixture
def result(monkeypatch, tmp_path) -> dict:
    """Of a network that tells bright faces from dark ones by their mean, which a dark copy takes from it."""

    def model(batch: torch.Tensor) -> SimpleNamespace:
        bright = torch.sigmoid(20 * (batch.mean((1, 2, 3))))
        return SimpleNamespace(probabilities=torch.stack([1 - bright, bright], 1))

    checkpoint = SimpleNamespace(
        model=model,
        labels=("anger", "happiness"),
        preprocessing=default_preprocessing(48).to_dict(),
        path=tmp_path / "step-7",
    )
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 70, (60, 48, 48, 1)).repeat(3, 3)
    images = [(face + (140 if number % 2 else 60)).astype(np.uint8) for number, face in enumerate(coarse)]
    dataset = SimpleNamespace(
        labels=("happiness", "anger"),
        load=lambda index: images[index],
        targets=lambda: 1 - np.arange(60) % 2,
        __len__=lambda: 60,
    )
    monkeypatch.setattr(bench, "load_checkpoint", lambda path: checkpoint)
    monkeypatch.setattr(bench, "open_dataset", lambda path, split: _Sized(dataset))
    return bench.document(tmp_path / "run", tmp_path / "faces", 40, 0, None)


class _Sized:
    def __init__(self, inner: SimpleNamespace) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return 60


def test_the_document_of_a_network_that_reads_brightness(result):
    rows = {row["way"]: row for row in result["test"]["ways"]}
    assert result["test"]["faces"] == 40
    assert rows[WHOLE]["accuracy"] == 1
    assert rows[WHOLE]["kept"] == 1
    assert rows["brightness x 0.08"]["accuracy"] < 0.7
    assert rows["noise of 10"]["accuracy"] > 0.9
    assert rows["8 pixels"]["parts"]["size"] == 0
    assert result["command"].endswith("run --data faces --images 40 --seed 0")
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(result, allow_nan=False))
    bench.figure(result)


def test_the_default_is_no_less_careful_than_what_was_chosen():
    committed = json.loads((ROOT / "docs/results/quality.json").read_text())
    assert 0 < committed["chosen"] <= committed["default"] == DEFAULT_LEAST
