from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training.runs import config, write_faces

from edgefel.training.loop import train


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As many as `whole` and the runs in other processes have: bitwise equality needs one order of summation."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="session")
def whole(faces, tmp_path_factory) -> Path:
    """An uninterrupted run of two epochs."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train(config(faces), run, quiet=True)
    torch.set_num_threads(before)
    return run
