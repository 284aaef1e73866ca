"""A run that is packed on one machine and continued on another, where nothing lies at its old place."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from training.runs import FLAGS, assert_same_run, cli, config, write_faces

from edgefel.training import data as training_data
from edgefel.training.config import load_config
from edgefel.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")

PRIOR = (
    ","
    + ",".join(names := ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"))
    + "\n"
)
PRIOR += "".join(
    f"{name}," + ",".join(str(0.4 if other == name else 0.1) for other in names) + "\n" for name in names
)


def elsewhere(run: Path, data: Path, root: Path) -> tuple[Path, Path]:
    """The run, packed and unpacked at another place, and its data at another place; the old ones are gone."""
    with tarfile.open(root / "run.tar.gz", "w:gz") as archive:
        archive.add(run, "nano")
    with tarfile.open(root / "run.tar.gz") as archive:
        archive.extractall(root / "other machine", filter="data")
    moved = root / "other machine/images"
    shutil.move(data, moved)
    shutil.rmtree(run)
    return root / "other machine/nano", moved


def stopped_at(run: Path, step: int) -> Path:
    """A copy of a run that was killed after the checkpoint of that step."""
    killed = run.parent / f"killed-{step}"
    shutil.copytree(run, killed)
    (killed / "last.json").write_text(
        json.dumps({"checkpoint": f"checkpoints/step-{step:06d}", "step": step, "epoch": (step - 1) // 3})
    )
    (killed / "best.json").unlink()
    return killed


@pytest.mark.parametrize("step", [2, 4])
def test_a_packed_run_goes_on_bit_for_bit_on_another_machine(whole, tmp_path, step):
    """In the middle of an epoch, with averaged weights; from weights, with a prior file and without copies."""
    data = write_faces(tmp_path / "faces")
    shutil.copytree(whole, tmp_path / "start")
    (tmp_path / "prior.csv").write_text(PRIOR)
    flags = ["--ema", 0.9, "--checkpoint-every", 1, "--keep", 9, "--mixup", 0.4, "--weight-decay", 0.05]
    flags += ["--init-from", tmp_path / "start", "--criterion", "pdls", "--prior", tmp_path / "prior.csv"]
    done = cli("--data", data, "-o", tmp_path / "run", *FLAGS, *flags, "--without-copies")
    assert done.exit_code == 0, done.output
    shutil.copytree(tmp_path / "run", tmp_path / "uninterrupted")
    run, moved = elsewhere(stopped_at(tmp_path / "run", step), data, tmp_path)
    shutil.rmtree(tmp_path / "start")
    (tmp_path / "prior.csv").unlink()

    done = cli("--resume", run)
    assert done.exit_code == 2
    assert f"{data}: no such folder" in done.stderr
    done = cli("--resume", run, "--data", moved)
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr.replace("warning: epoch", "")
    if step == 2:  # the best before step 4 was removed above
        assert_same_run(run, tmp_path / "uninterrupted")
    weights = "checkpoints/step-000006/model.safetensors"
    assert (run / weights).read_bytes() == (tmp_path / "uninterrupted" / weights).read_bytes()
    assert load_config(run / "config.yaml").data == str(moved)


def test_before_its_first_checkpoint_a_run_is_told_where_its_start_lies_now(whole, tmp_path):
    data = write_faces(tmp_path / "faces")
    shutil.copytree(whole, tmp_path / "start")
    flags = [*FLAGS, "--init-from", tmp_path / "start"]
    assert cli("--data", data, "-o", tmp_path / "run", *flags).exit_code == 0
    early = tmp_path / "early"
    early.mkdir()
    shutil.copy(tmp_path / "run/config.yaml", early)
    run, moved = elsewhere(early, data, tmp_path)
    shutil.move(tmp_path / "start", tmp_path / "weights")
    done = cli("--resume", run, "--data", moved)
    assert done.exit_code == 2
    assert "no such checkpoint" in done.stderr
    done = cli("--resume", run, "--data", moved, "--init-from", tmp_path / "weights")
    assert done.exit_code == 0, done.output
    assert_same_run(run, tmp_path / "run")
    # afterwards the weights are in the run
    done = cli("--resume", run, "--init-from", tmp_path / "weights")
    assert done.exit_code == 2
    assert "init_from cannot change when a run is resumed" in done.stderr


def test_a_prior_is_another_file_only_where_the_run_holds_none(faces, tmp_path):
    (tmp_path / "prior.csv").write_text(PRIOR)
    settings = {"loss.criterion": "pdls", "loss.prior": str(tmp_path / "prior.csv"), "max_steps": 1}
    train(config(faces, **settings), tmp_path / "run", quiet=True)
    (tmp_path / "prior.csv").rename(tmp_path / "moved.csv")
    (tmp_path / "run/prior.csv").rename(tmp_path / "kept.csv")  # a run of an earlier version
    assert "loss.prior cannot change" in cli("--resume", tmp_path / "run", "--prior", "uniform").stderr
    assert "no such file" in cli("--resume", tmp_path / "run", "--max-steps", 2).stderr
    done = cli("--resume", tmp_path / "run", "--max-steps", 2, "--prior", tmp_path / "moved.csv")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run/prior.csv").read_text() == (tmp_path / "kept.csv").read_text()
    done = cli("--resume", tmp_path / "run", "--prior", tmp_path / "moved.csv")
    assert "loss.prior cannot change" in done.stderr


def test_other_images_than_before_are_told(faces, tmp_path):
    train(config(faces, max_steps=1), tmp_path / "run", quiet=True)
    other = write_faces(tmp_path / "other")
    table = other / "labels.csv"
    table.write_text(table.read_text().replace("0.png,neutral", "0.png,anger", 1))
    done = cli("--resume", tmp_path / "run", "--data", other, "--max-steps", 2, "--quiet")
    assert done.exit_code == 0
    assert f"warning: {other}: not the training images or labels of the run so far" in done.stderr


def test_copies_are_searched_once_wherever_the_data_lie(tmp_path, monkeypatch):
    """The search takes as long as some epochs, and look-alikes on the edge could differ on another processor."""
    data = write_faces(tmp_path / "faces")
    for copy, held_out in ((2, 30), (9, 30), (12, 33)):
        shutil.copy(data / f"{held_out}.png", data / f"{copy}.png")
    flags = [
        "--data",
        data,
        "-o",
        tmp_path / "run",
        *FLAGS,
        "--without-copies",
        "--checkpoint-every",
        1,
        "--keep",
        9,
    ]
    assert cli(*flags).exit_code == 0
    shutil.copytree(tmp_path / "run", tmp_path / "uninterrupted")
    run, moved = elsewhere(stopped_at(tmp_path / "run", 2), data, tmp_path)
    searches = []
    search = training_data.copies_elsewhere
    monkeypatch.setattr(
        training_data, "copies_elsewhere", lambda *a, **k: searches.append(a) or search(*a, **k)
    )
    assert cli("--resume", run, "--data", moved).exit_code == 0
    assert searches == []
    assert_same_run(run, tmp_path / "uninterrupted")
    left_out = json.loads((run / "left-out.json").read_text())
    assert left_out["equal_files"] == [str(moved / f"{number}.png") for number in (2, 9, 12)]
    # of other images what was found then tells nothing
    shutil.move(moved / "12.png", moved / "12a.png")
    table = moved / "labels.csv"
    table.write_text(table.read_text().replace("12.png", "12a.png"))
    assert cli("--resume", run, "--epochs", 3).exit_code == 0
    assert len(searches) == 1
    assert str(moved / "12a.png") in json.loads((run / "left-out.json").read_text())["equal_files"]
