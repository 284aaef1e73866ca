"""Places to run at, and how far a run has come."""

from __future__ import annotations

import pytest

from edgefel.bench.experiments.ablation.pool import Slot, last_step, slots
from edgefel.errors import EdgefelError


def test_places_to_run():
    assert slots(None, 0, 2) == [Slot(1)] * 2
    assert slots(1, 0, 8) == [Slot(8)]
    assert Slot(8).environment == {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": ""}
    assert [slot.environment for slot in slots(None, 3, 16)] == [
        {"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "1", "2")
    ]
    # more runs than GPUs: several share one
    assert slots(4, 2, 16) == [Slot(4, gpu) for gpu in (0, 1, 0, 1)]
    with pytest.raises(EdgefelError, match="give at least 1"):
        slots(0, 0, 2)


def test_a_log_that_is_being_written(tmp_path):
    log = tmp_path / "metrics.csv"
    assert last_step(log) == 0
    log.write_text("step,loss\n20,1.5\n40,1.2\n")
    assert last_step(log) == 40
    log.write_text("step,loss\n")
    assert last_step(log) == 0
