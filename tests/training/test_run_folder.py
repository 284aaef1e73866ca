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
