"""A small data set and the comparison on it."""

from __future__ import annotations

import pytest
from calibration_sets import OPTIONS, PREPROCESSING
from exported import LABELS, tiny_graph, write_faces

from edgefel.bench.experiments.calibration.comparison import Comparison, compare_strategies, plan_comparison
from edgefel.data.dataset import ImageDataset
from edgefel.data.open import open_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> ImageDataset:
    root = tmp_path_factory.mktemp("comparison") / "faces"
    write_faces(root / "train", LABELS, 20)
    write_faces(root / "test", LABELS, 3, seed=1)
    write_faces(root / "val", LABELS, 1, seed=2)
    (root / "test/fear/1.png").write_bytes(b"no image")
    return open_dataset(root)


@pytest.fixture(scope="session")
def comparison(dataset) -> Comparison:
    # the model lists the same classes in another order
    plan = plan_comparison(dataset, LABELS[::-1], OPTIONS)
    return compare_strategies(tiny_graph(), PREPROCESSING, plan)
