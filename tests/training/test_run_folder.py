"""The folder of a run: what it holds, what is refused, and what a crash leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from training.runs import FLAGS, assert_same_run, cli, config

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training import loop
from edgefel.training.config import load_config
from edgefel.training.distributed import create_fabric
from edgefel.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_folder_holds_what_it_promises(whole, faces):
    assert {p.name for p in whole.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "tb",
        "checkpoints",
        "last.json",
        "best.json",
    }
    assert load_config(whole / "config.yaml") == config(faces)
    last = json.loads((whole / "last.json").read_text())
    assert (last["step"], last["epoch"]) == (6, 2)
    checkpoint = load_checkpoint(whole / last["checkpoint"])
    assert checkpoint.labels == EXPRESSIONS_7
    assert checkpoint.preprocessing["resize"] == 128
    best = json.loads((whole / "best.json").read_text())
    kept = {p.name for p in (whole / "checkpoints").iterdir()}
    assert kept == {Path(p["checkpoint"]).name for p in (last, best)}
    assert list((whole / "tb").iterdir())


def test_nothing_in_a_checkpoint_is_a_pickle(whole):
    suffixes = {p.suffix for p in (whole / "checkpoints").rglob("*") if p.is_file()}
    assert suffixes == {".safetensors", ".json"}


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    folder = run / json.loads((run / "last.json").read_text())["checkpoint"]
    weights = folder / "training.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = cli("--resume", run)
    assert done.exit_code == 2
    assert "training.safetensors" in done.stderr


def edited(whole: Path, run: Path, edit) -> Path:
    """A copy of a run whose last training.json is edited."""
    shutil.copytree(whole, run)
    file = run / json.loads((run / "last.json").read_text())["checkpoint"] / "training.json"
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))
    return run


def test_a_run_of_an_earlier_version_goes_on(faces, whole, tmp_path):
    def before(values):
        del values["best_epoch"], values["lowest_loss"], values["since"]

    run = edited(whole, tmp_path / "run", before)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("adamw", "adam"))
    done = cli("--resume", run, "--epochs", 3)
    assert done.exit_code == 0, done.output
    assert "epoch 3/3" in done.stderr
    assert "optimizer: adamw" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda values: values.pop("step"), "training.json: lacks step; the run is damaged"),
        (
            lambda values: values.update(moon=1),
            "unknown entries moon; continue the run with the edgefel that",
        ),
        (lambda values: values.update(since={"loss": "x"}), "training.json: since"),
    ],
)
def test_a_state_that_cannot_be_read(whole, tmp_path, edit, message):
    done = cli("--resume", edited(whole, tmp_path / "run", edit))
    assert done.exit_code == 2
    assert message in done.stderr


def test_what_a_run_that_was_killed_early_leaves_does_no_harm(faces, whole, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    train(config(faces), run, quiet=True)
    assert_same_run(run, whole)
    assert not (run / ".lock").exists()


def test_a_run_that_is_being_trained_is_refused(faces, tmp_path, monkeypatch):
    """Neither resumed nor taken for an output, from its first moment on; a lock holds within a process too."""
    run, refused = tmp_path / "run", []

    def refuse(*arguments):
        done = cli(*arguments)
        assert done.exit_code == 2
        assert f"error: {run}: another process is training there" in done.stderr
        refused.append(arguments)

    def create(config):
        refuse("--data", faces, "-o", run, *FLAGS)
        return create_fabric(config)

    def step(self, batch):
        refuse("--resume", run)
        return Trainer_step(self, batch)

    Trainer_step = loop.Trainer.step
    monkeypatch.setattr(loop, "create_fabric", create)
    monkeypatch.setattr(loop.Trainer, "step", step)
    loop.train(config(faces, max_steps=2), run, quiet=True)
    assert len(refused) == 3
    assert not (run / ".lock").exists()
