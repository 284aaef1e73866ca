"""Early stopping: runs whose validation scores are given end where they should, also when they are resumed."""

from __future__ import annotations

import pytest
from training.runs import assert_same_run, cli, rows, write_faces
from training.runs import config as usual_config

from edgefel.errors import EdgefelError
from edgefel.training.config import load_config
from edgefel.training.loop import resume, train
from edgefel.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

# by epoch: the best of all is never reached with a patience of 2
SCORES = (0.1, 0.3, 0.2, 0.4, 0.4, 0.39, 0.9, 0.1, 0.1, 0.1)


def config(faces, **changes):
    """Ten epochs of a step each."""
    return usual_config(faces, **({"epochs": 10, "per_class": 1} | changes))


@pytest.fixture(autouse=True)
def given_scores(monkeypatch):
    def scores(self, row):
        self.state.best_epoch = row["epoch"]
        return {"val_macro_f1": SCORES[row["epoch"] - 1], "val_accuracy": 0.5}

    monkeypatch.setattr(Trainer, "_validate", scores)


def test_a_run_ends_when_it_no_longer_gets_better(faces, tmp_path):
    result = train(config(faces, patience=2), tmp_path / "run", quiet=True)
    assert (result.epoch, result.step, result.best) == (6, 6, 0.4)
    assert (result.stopped_early, result.interrupted) == (True, False)
    assert load_config(tmp_path / "run/config.yaml").patience == 2
    assert [float(row["val_macro_f1"]) for row in rows(tmp_path / "run") if row["val_macro_f1"]] == list(
        SCORES[:6]
    )
    # the best is kept beside the last
    assert (tmp_path / "run/checkpoints/step-000004").is_dir()


@pytest.mark.parametrize(("patience", "epochs", "early"), [(1, 3, True), (3, 10, False)])
def test_patience_is_counted_in_validations(faces, tmp_path, patience, epochs, early):
    result = train(config(faces, patience=patience), tmp_path / "run", quiet=True)
    assert (result.epoch, result.stopped_early) == (epochs, early)


def test_fewer_validations_take_longer(faces, tmp_path):
    """Of every second epoch: 0.3, 0.4, 0.39, 0.1."""
    result = train(config(faces, patience=2, eval_every=2), tmp_path / "run", quiet=True)
    assert (result.epoch, result.stopped_early) == (8, True)


def test_a_killed_run_that_is_resumed_stops_at_the_same_step(faces, tmp_path, monkeypatch):
    changes = {"patience": 2, "keep": 2}
    train(config(faces, **changes), tmp_path / "whole", quiet=True)
    step, at = Trainer.step, iter((2, 5))

    def killed(self, batch):
        if self.state.step == self.end:
            raise RuntimeError("killed")
        step(self, batch)

    monkeypatch.setattr(Trainer, "step", killed)
    monkeypatch.setattr(Trainer, "end", next(at), raising=False)
    with pytest.raises(RuntimeError, match="killed"):
        train(config(faces, **changes), tmp_path / "run", quiet=True)
    # between the first validation without a better score and the second
    monkeypatch.setattr(Trainer, "end", next(at))
    with pytest.raises(RuntimeError, match="killed"):
        resume(tmp_path / "run", quiet=True)
    monkeypatch.setattr(Trainer, "end", None)
    result = resume(tmp_path / "run", quiet=True)
    assert (result.step, result.stopped_early) == (6, True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_has_stopped_goes_on_with_more_patience(faces, tmp_path):
    run = tmp_path / "run"
    train(config(faces, patience=2), run, quiet=True)
    assert resume(run, quiet=True).step == 6
    assert (resume(run, {"patience": 3}, quiet=True).epoch, load_config(run / "config.yaml").patience) == (
        10,
        3,
    )


def test_without_validation_there_is_nothing_to_wait_for(tmp_path):
    faces = write_faces(tmp_path / "faces", val=False)
    with pytest.raises(EdgefelError, match="patience is 2, but .* has no split val"):
        train(config(faces, patience=2), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run/config.yaml").exists()


def test_the_command_says_that_it_stopped(faces, tmp_path):
    flags = ["--model", "poster-v2-nano", "--batch-size", 4, "--per-class", 1, "--accelerator", "cpu", "-q"]
    done = cli("--data", faces, "-o", tmp_path / "run", *flags, "--epochs", 10, "--patience", 2)
    assert done.exit_code == 0, done.output
    assert "6 steps, 6 epochs (stopped early), best validation score 0.4000" in done.output
