"""Whole runs of a small model: how they stop, and that a resumed one is the same run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from heeding import heeding
from training.runs import FLAGS, assert_same_run, cli, config, rows, tensors, write_faces

from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint, save_part
from edgefel.training.config import LossConfig
from edgefel.training.loop import resume, train
from edgefel.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_learns(faces, tmp_path):
    changes = {"epochs": 8, "batch_size": 7, "lr": 3e-3, "loss.smoothing": 0.0, "eval_every": 8}
    train(config(faces, **changes), tmp_path / "run", quiet=True)
    lines = rows(tmp_path / "run")
    assert float(lines[-1]["loss"]) < 0.7 * float(lines[0]["loss"])


def start(run: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edgefel.cli.main", "train", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_in_the_middle_of_an_epoch_and_resumed_is_the_same_run(faces, whole, tmp_path):
    run = tmp_path / "killed"
    process = start(run, "--data", faces, "-o", run, *FLAGS, "--checkpoint-every", 2)
    wait_for(lambda: (run / "last.json").is_file(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = json.loads((run / "last.json").read_text())["step"]
    assert 0 < at < 6, "the run ended before it could be killed"
    # what a kill at the worst moment leaves behind
    (run / "checkpoints/.step-000099.x.tmp").mkdir()
    (run / "checkpoints/step-000099").mkdir()
    # and a copy that a person keeps
    (run / "checkpoints/step-000002-good").mkdir()
    with (run / "metrics.csv").open("a") as stream:
        stream.write("99,9,1.0,2.0,half")
    result = resume(run, quiet=True)
    assert (result.step, result.interrupted) == (6, False)
    assert_same_run(run, whole)
    assert not (run / "checkpoints/step-000099").exists()
    assert not list((run / "checkpoints").glob(".*"))
    assert (run / "checkpoints/step-000002-good").is_dir()


def test_killed_before_the_first_checkpoint_starts_again(faces, whole, tmp_path):
    from edgefel.training.config import dump_config

    run = tmp_path / "early"
    run.mkdir()
    (run / "config.yaml").write_text(dump_config(config(faces)))
    resume(run, quiet=True)
    assert_same_run(run, whole)


def test_a_signal_saves_says_how_to_go_on_and_exits_with_its_code(faces, whole, tmp_path):
    """Of a process; tests/test_signals.py sends every signal to another command."""
    run = tmp_path / "stopped"
    process = start(run, "--data", faces, "-o", run, *FLAGS)
    wait_for(lambda: (run / "metrics.csv").is_file() and len(rows(run)) >= 1, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    check_stopped(run, errors, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_do_the_same(faces, whole, tmp_path, monkeypatch, number):
    step = Trainer.step

    def and_signal(self, batch):
        step(self, batch)
        if self.state.step == 2:
            signal.getsignal(number)(number, None)  # as if it came; the tests' own process gets none

    run = tmp_path / "stopped"
    with monkeypatch.context() as patch, heeding():
        patch.setattr(Trainer, "step", and_signal)
        done = cli("--data", faces, "-o", run, *FLAGS)
    assert done.exit_code == 128 + number
    check_stopped(run, done.stderr, whole)


def check_stopped(run: Path, errors: str, whole: Path) -> None:
    assert f"edgefel train --resume {run}" in errors.replace("\n", "")
    assert 2 <= json.loads((run / "last.json").read_text())["step"] < 6
    done = cli("--resume", run, "--quiet")
    assert done.exit_code == 0, done.output
    assert_same_run(run, whole)


def test_the_same_without_a_cache(faces, whole, tmp_path):
    train(config(faces, **{"compute.cache_mb": 0, "compute.workers": 1}), tmp_path / "run", quiet=True)
    assert_same_run(tmp_path / "run", whole)


def test_unreadable_images_are_replaced_counted_and_named(tmp_path):
    data = write_faces(tmp_path / "faces", broken=(3, 10, 17, 30))
    for cache_mb in (0, 100):
        run = tmp_path / f"run{cache_mb}"
        done = cli("--data", data, "-o", run, *FLAGS, "--cache-mb", cache_mb, "--epochs", 3)
        assert done.exit_code == 0, done.output
        assert "skipped 4 unreadable images" in done.stderr
        for name in ("3.png", "10.png", "30.png"):
            assert name in done.stderr
        assert rows(run)[-1]["val_accuracy"]
    # whether bad images are found beforehand or on the way, the same ones stand in for them
    first, second = tensors(tmp_path / "run0"), tensors(tmp_path / "run100")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_a_class_without_a_readable_image(tmp_path, cache_mb):
    data = write_faces(tmp_path / "faces", broken=(3, 10, 17, 24))
    done = cli("--data", data, "-o", tmp_path / "run", *FLAGS, "--cache-mb", cache_mb)
    assert done.exit_code == 2
    assert "no image of the class 'surprise' can be read" in done.stderr


def test_init_from_and_frozen_backbones(whole, faces, tmp_path):
    made = config(faces, model="arbex-nano", init_from=[str(whole)], freeze_backbones=True, max_steps=2)
    train(made, tmp_path / "run", quiet=True)
    before = load_checkpoint(whole).model.state_dict()
    after = load_checkpoint(tmp_path / "run").model.state_dict()
    streams = [key for key in before if "_stream." in key]
    assert len(streams) > 50
    assert all(torch.equal(before[key], after[key]) for key in streams)
    assert not torch.equal(before["encoder.pos_embed"], after["encoder.pos_embed"])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("arbex-nano", Preprocessing(112, 112, resample="antialias", detail=36)),
        ("arbex-nano+resizer", Preprocessing(192, 192, resample="antialias", detail=36)),
    ],
)
def test_a_run_keeps_the_preprocessing_of_the_weights_it_starts_from(
    whole, faces, tmp_path, capsys, model, expected
):
    loaded = load_checkpoint(whole)
    own = Preprocessing(112, 112, resample="antialias", detail=20)
    save_checkpoint(tmp_path / "start", loaded.model, loaded.labels, own.to_dict())
    made = config(faces, model=model, init_from=[str(tmp_path / "start")], max_steps=1)
    train(made, tmp_path / "run")
    said = f"images as the weights of init_from know them: {expected.summary}"
    assert said in " ".join(capsys.readouterr().err.split())
    assert Preprocessing.from_dict(load_checkpoint(tmp_path / "run").preprocessing) == expected
    # a resumed run goes on as it began, with or without what it started from
    shutil.rmtree(tmp_path / "start")
    resume(tmp_path / "run", {"max_steps": 2}, quiet=True)
    assert Preprocessing.from_dict(load_checkpoint(tmp_path / "run").preprocessing) == expected


def test_a_run_from_backbones_has_the_recipes_preprocessing(whole, faces, tmp_path):
    weights = load_checkpoint(whole).model.state_dict()
    part = {key: value for key, value in weights.items() if key.startswith("encoder.image_stream.")}
    save_part(tmp_path / "part", "encoder.image_stream", part, {})
    train(
        config(faces, model="arbex-nano", init_from=[str(tmp_path / "part")], max_steps=1), tmp_path / "run"
    )
    recipe = replace(default_preprocessing(112), detail=36)  # that of the data
    assert load_checkpoint(tmp_path / "run").preprocessing == recipe.to_dict()


def test_soft_labels_and_no_validation(tmp_path):
    data = write_faces(tmp_path / "faces", val=False)
    losses = []
    for soft in (False, True):
        made = config(data, max_steps=1, loss=LossConfig(soft_labels=soft).__dict__)
        result = train(made, tmp_path / str(soft), quiet=True)
        assert result.best is None
        assert not (tmp_path / str(soft) / "best.json").exists()
        losses.append(float(rows(tmp_path / str(soft))[-1]["loss"]))
    assert losses[0] != losses[1]
    load_checkpoint(tmp_path / "True")


def test_a_time_limit_stops_and_can_be_raised(faces, tmp_path):
    result = train(config(faces, max_minutes=1e-6), tmp_path / "run", quiet=True)
    assert result.step == 1
    assert resume(tmp_path / "run", quiet=True).step == 1
    assert resume(tmp_path / "run", {"max_minutes": 5.0, "max_steps": 2}, quiet=True).step == 2


def test_sgd_and_f_pdls_resumed_are_the_same_run(faces, tmp_path):
    settings = {"optimizer": "sgd", "weight_decay": 5e-4, "lr_schedule": "cosine"}
    settings |= {"loss.criterion": "f-pdls", "loss.prior": "votes", "model": "apvit-nano+reliability"}
    made = config(faces, **settings)
    train(made, tmp_path / "whole", quiet=True)
    train(made.replaced({"max_minutes": 1e-6}), tmp_path / "stopped", quiet=True)
    assert resume(tmp_path / "stopped", {"max_minutes": 60.0}, quiet=True).step == 6
    stopped, whole = tensors(tmp_path / "stopped"), tensors(tmp_path / "whole")
    assert any("momentum_buffer" in key for key in whole)
    assert stopped.keys() == whole.keys()
    for key in whole:
        assert torch.equal(stopped[key], whole[key]), key


def test_a_loss_that_is_not_finite_stops_the_run(faces, tmp_path):
    done = cli("--data", faces, "-o", tmp_path / "run", *FLAGS, "--lr", "1e30")
    assert done.exit_code == 2
    assert "no longer finite" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "arbex-huge"], "unknown model 'arbex-huge'; known: arbex"),
        (["--data", "{tmp}/none"], "no such folder"),
        (["--data", "{tmp}/onlyval"], "no images in the split 'train'"),
        (["--num-classes", "8"], "has 7 classes"),
        (["--accelerator", "cuda"], "not available here"),
        (["--accelerator", "abacus"], "not available here"),
        (["--precision", "12"], "not available here"),
        (["--batch-size", "400"], "fewer than one batch of 400"),
        (["--lr", "-1"], "lr is -1.0; it must be more than 0"),
        (["--model-set", "head.nothing=1"], "nothing"),
        (["--model-set", "head"], "write NAME=VALUE"),
        (["--init-from", "{tmp}/none"], "no such checkpoint"),
        (["-c", "{tmp}/none.yaml"], "no such file"),
        (["--resume", "{tmp}"], "give either -o RUN"),
        (["-o", "{tmp}/full"], "the output folder is not empty"),
        (["-o", "{whole}"], "continue it with: edgefel train --resume"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(faces, whole, tmp_path, flags, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    write_faces(tmp_path / "onlyval")
    csv_file = tmp_path / "onlyval/labels.csv"
    csv_file.write_text(csv_file.read_text().replace(",train,", ",val,"))
    before = sorted(tmp_path.rglob("*"))
    flags = [flag.format(tmp=tmp_path, whole=whole) for flag in flags]
    done = cli("--data", faces, "-o", tmp_path / "run", *FLAGS, *flags)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_resume_refuses_what_would_change_the_result(whole, tmp_path):
    done = cli("--resume", whole, "--lr", 1.0)
    assert done.exit_code == 2
    assert "lr cannot change when a run is resumed" in done.stderr
    done = cli("--resume", tmp_path)
    assert done.exit_code == 2
    assert "not a training run" in done.stderr
    done = cli()
    assert "give either -o RUN to start a run or --resume RUN" in done.stderr


def test_help_groups_every_setting():
    text = cli("--help").output
    for heading in ("Recipe:", "Losses:", "Augmentation", "Where it runs:", "Examples:"):
        assert heading in text
    for flag in ("--epochs", "--smoothing", "--lambda-anchor", "--noise", "--devices", "--freeze-backbones"):
        assert flag in text
