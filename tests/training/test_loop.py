"""Whole runs of a small model: what they write, how they stop, and that a resumed one is the same run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint, save_part
from edgefel.training.config import ComputeConfig, LossConfig, TrainConfig, load_config
from edgefel.training.loop import resume, train


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # the runs in other processes use one thread too: bitwise equality needs the same summation order
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_faces(root: Path, *, broken: tuple[int, ...] = (), labels=EXPRESSIONS_7, val: bool = True) -> Path:
    """28 images to train on and 7 to validate; the numbers in `broken` cannot be read."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split", "subject", *(f"soft_{name}" for name in labels)))
        for i in range(35 if val else 28):
            path = root / f"{i}.png"
            colour = np.random.default_rng(i % len(labels)).integers(0, 256, 3)
            noisy = colour + rng.normal(0, 20, (36, 36, 3))
            cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8))
            if i in broken:
                path.write_bytes(b"no image")
            soft = [0.7 if c == i % len(labels) else 0.3 / (len(labels) - 1) for c in range(len(labels))]
            split = "train" if i < 28 else "val"
            writer.writerow((path.name, labels[i % len(labels)], split, f"s{i % 5}", *soft))
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("data") / "faces")


def config(faces: Path, **changes) -> TrainConfig:
    base = TrainConfig(
        model="poster-v2-nano",
        data=str(faces),
        epochs=2,
        batch_size=4,  # an epoch of 14 images has 3 steps; the last 2 images are dropped
        per_class=2,
        lr=1e-3,
        log_every=2,
        warmup_steps=2,
        clip_norm=1.0,
        loss=LossConfig(lambda_auxiliary=1.0, auxiliary_steps=1),
        compute=ComputeConfig(accelerator="cpu", workers=0),
    )
    return base.replaced(changes)


FLAGS = ["--model", "poster-v2-nano", "--epochs", 2, "--batch-size", 4, "--per-class", 2, "--lr", 1e-3]
FLAGS += ["--log-every", 2, "--accelerator", "cpu", "--workers", 0]
FLAGS += ["--warmup-steps", 2, "--clip-norm", 1.0, "--lambda-auxiliary", 1.0, "--auxiliary-steps", 1]


def cli(*arguments: object):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock."""
    with (run / "metrics.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        del line["seconds"], line["images_per_second"]
    return lines


def tensors(run: Path, pointer: str = "last.json") -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a checkpoint of a run."""
    folder = run / json.loads((run / pointer).read_text())["checkpoint"]
    optimizer = load_file(folder / "training.safetensors")
    return load_file(folder / "model.safetensors") | {f"optimizer {k}": v for k, v in optimizer.items()}


def assert_same_run(one: Path, two: Path) -> None:
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    assert any(key.startswith("optimizer") for key in first)
    for key in first:
        assert torch.equal(first[key], second[key]), key
    assert rows(one) == rows(two)
    for pointer in ("last.json", "best.json"):
        assert json.loads((one / pointer).read_text()) == json.loads((two / pointer).read_text())


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory) -> Path:
    """An uninterrupted run of two epochs."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config(faces), run, quiet=True)
    return run


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


def test_the_log_has_a_line_per_interval_and_validation(whole):
    lines = rows(whole)
    assert [int(line["step"]) for line in lines] == [2, 3, 4, 6]
    assert [bool(line["val_macro_f1"]) for line in lines] == [False, True, False, True]
    assert [float(line["lr"]) for line in lines] == pytest.approx([1e-3, 1e-3, 0.995e-3, 0.995e-3])
    assert [float(line["correction_ramp"]) for line in lines] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 1.0])
    assert all(0 < float(line["loss_classification"]) < 20 for line in lines)


def test_training_learns(faces, tmp_path):
    changes = {"epochs": 12, "batch_size": 7, "lr": 3e-3, "loss.smoothing": 0.0, "eval_every": 12}
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_says_how_to_go_on_and_exits_with_its_code(faces, whole, tmp_path, number):
    run = tmp_path / "stopped"
    process = start(run, "--data", faces, "-o", run, *FLAGS)
    wait_for(lambda: (run / "metrics.csv").is_file() and len(rows(run)) >= 1, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
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
        ("arbex-nano", Preprocessing(112, 112, resample="antialias")),
        ("arbex-nano+resizer", Preprocessing(192, 192, resample="antialias")),
    ],
)
def test_a_run_keeps_the_preprocessing_of_the_weights_it_starts_from(
    whole, faces, tmp_path, capsys, model, expected
):
    loaded = load_checkpoint(whole)
    own = Preprocessing(112, 112, resample="antialias")
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
    assert load_checkpoint(tmp_path / "run").preprocessing == default_preprocessing(112).to_dict()


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


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    folder = run / json.loads((run / "last.json").read_text())["checkpoint"]
    weights = folder / "training.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = cli("--resume", run)
    assert done.exit_code == 2
    assert "training.safetensors" in done.stderr


def test_help_groups_every_setting():
    text = cli("--help").output
    for heading in ("Recipe:", "Losses:", "Augmentation", "Where it runs:", "Examples:"):
        assert heading in text
    for flag in ("--epochs", "--smoothing", "--lambda-anchor", "--noise", "--devices", "--freeze-backbones"):
        assert flag in text


def test_a_run_that_is_being_trained_is_refused(faces, tmp_path):
    """Neither resumed by another process nor taken for an output, from its first moment on."""
    run = tmp_path / "run"
    process = start(run, "--data", faces, "-o", run, *FLAGS, "--epochs", 10_000)
    try:
        wait_for((run / ".lock").exists, process)
        refused = cli("--data", faces, "-o", run, *FLAGS)
        assert refused.exit_code == 2
        assert "another process is training there" in refused.stderr or "holds a run" in refused.stderr
        wait_for((run / "last.json").exists, process)
        before = {path: path.read_bytes() for path in run.rglob("*.json")}
        refused = cli("--resume", run)
        assert refused.exit_code == 2
        assert refused.stderr.splitlines()[-1].startswith(f"error: {run}: another process is training there")
        assert all(path.read_bytes() == data for path, data in before.items() if path.exists())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert not (run / ".lock").exists()


def test_what_a_run_that_was_killed_early_leaves_does_no_harm(faces, whole, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    train(config(faces), run, quiet=True)
    assert_same_run(run, whole)
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK"])
def test_of_the_processes_of_a_run_the_first_holds_the_folder(monkeypatch, name):
    from edgefel.training.distributed import is_first_process

    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
