"""Places to run at, and how far a run has come."""

from __future__ import annotations

import pytest

from edgefel.bench.experiments.ablation.pool import Slot, last_step, slots, together
from edgefel.errors import EdgefelError


def test_places_to_run():
    one = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert slots(None, 0, 2) == [Slot(one, 1)] * 2
    assert slots(1, 0, 8) == [Slot(one | {"OMP_NUM_THREADS": "8"}, 8)]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(None, 3, 16)] == ["0", "1", "2"]
    # more runs than GPUs: several share one
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(4, 2, 16)] == ["0", "1", "0", "1"]
    assert {slot.threads for slot in slots(4, 2, 16)} == {4}
    with pytest.raises(EdgefelError, match="give at least 1"):
        slots(0, 0, 2)


def test_a_log_that_is_being_written(tmp_path):
    log = tmp_path / "metrics.csv"
    assert last_step(log) == 0
    log.write_text("step,loss\n20,1.5\n40,1.2\n")
    assert last_step(log) == 40
    log.write_text("step,loss\n")
    assert last_step(log) == 0


def test_a_run_that_the_others_wait_for_has_all_threads():
    assert together(slots(None, 0, 4)) == Slot({"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": ""}, 4)
    assert together(slots(None, 2, 8)) == Slot({"CUDA_VISIBLE_DEVICES": "0"}, 8)
