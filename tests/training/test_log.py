"""What a run reports."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from training.runs import rows

from edgefel.errors import EdgefelError
from edgefel.training.log import COLUMNS, Clock, MetricsLog, TrainingProgress, Window
from edgefel.training.losses import LossTerms


def test_the_log_has_a_line_per_interval_and_validation(whole):
    lines = rows(whole)
    assert [int(line["step"]) for line in lines] == [2, 3, 4, 6]
    assert [bool(line["val_macro_f1"]) for line in lines] == [False, True, False, True]
    assert [float(line["lr"]) for line in lines] == pytest.approx([1e-3, 1e-3, 0.995e-3, 0.995e-3])
    assert [float(line["correction_ramp"]) for line in lines] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 1.0])
    assert all(0 < float(line["loss_classification"]) < 20 for line in lines)


def test_a_row_of_an_unknown_column_is_refused_and_others_stay_empty(tmp_path):
    log = MetricsLog(tmp_path)
    with pytest.raises(ValueError, match="nothing"):
        log.write({"step": 1, "epoch": 1, "nothing": 1.0})
    log.write({"step": 2, "epoch": 1, "loss": 1 / 3})
    log.close()
    (row,) = read(tmp_path)
    assert row == dict.fromkeys(COLUMNS, "") | {"step": "2", "epoch": "1", "loss": repr(1 / 3)}


def test_resuming_cuts_off_what_came_after_the_checkpoint_and_broken_lines(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write({"step": step, "epoch": 1})
    log.close()
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write("no step," + "," * (len(COLUMNS) - 2) + "\n4,1,cut off")
    MetricsLog(tmp_path, resumed_step=2).close()
    assert [row["step"] for row in read(tmp_path)] == ["1", "2"]


def test_rows_of_an_earlier_version_with_fewer_columns_stay(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,epoch,loss,val_loss\n1,1,0.5,\n2,1,0.25,0.75\n3,1,0.1,\n")
    MetricsLog(tmp_path, resumed_step=2).close()
    first, second = read(tmp_path)
    assert first == dict.fromkeys(COLUMNS, "") | {"step": "1", "epoch": "1", "loss": "0.5"}
    assert (second["loss"], second["val_loss"]) == ("0.25", "0.75")


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def terms(*values: float) -> LossTerms:
    return LossTerms(*map(torch.tensor, values))


def test_a_window_has_the_means_of_its_steps_and_starts_again():
    window = Window(torch.device("cpu"), 1, [])
    window.add(terms(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), torch.tensor(3), 4)
    window.add(terms(3.0, 2.0, 3.0, 4.0, 5.0, 0.0), torch.tensor(1), 4)
    means = window.own()
    assert (means["loss"], means["loss_classification"], means["loss_auxiliary"]) == (2.0, 2.0, 3.0)
    assert means["accuracy"] == 0.5
    again = Window(torch.device("cpu"), 1, window.state())
    assert again.take() == means
    assert again.own()["accuracy"] == again.own()["loss"] == 0


def test_a_loss_that_is_not_finite_is_named():
    window = Window(torch.device("cpu"), 1, [])
    window.add(terms(float("nan"), 2.0, 3.0, 4.0, 5.0, 6.0), torch.tensor(3), 4)
    with pytest.raises(EdgefelError, match="the loss is no longer finite .*'loss': nan"):
        window.take()


@pytest.mark.parametrize(("limit", "left"), [(math.inf, "1:40:00"), (40.0, "0:30")])
def test_the_bar_tells_the_time_that_is_left(limit, left, capsys):
    """After 10 seconds and 1 of 601 steps, or until the limit."""
    progress = TrainingProgress(3, 601, limit, start=0, spent=0.0, enabled=True)

    class Stopped(Clock):
        def seconds(self) -> float:
            return 10.0

    progress.update(1, 1, {"loss": 0.5, "accuracy": 0.25}, Stopped(0.0))
    (task,) = progress.bar.tasks
    assert task.fields["epoch"] == "2/3"
    assert task.fields["numbers"].startswith("loss 0.500  accuracy 25.0%  0 images/s  ")
    assert task.fields["numbers"].endswith(f"  {left} left")
    progress.say("a line")
    assert "a line" in capsys.readouterr().err
