"""`edgefel ablate`: real runs of a few steps, stopped, killed, failed and gone on with."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import shallow
import torch
from click.testing import CliRunner
from heeding import heed
from safetensors.torch import load_file

from edgefel.bench.experiments.ablation import pool
from edgefel.bench.experiments.ablation.plan import RECIPES, Recipe
from edgefel.bench.experiments.ablation.pool import last_step
from edgefel.bench.results import read_results
from edgefel.cli.main import main
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.models.checkpoint import load_checkpoint

# a run is a process that imports PyTorch, takes one or two steps and labels a dozen images
SETTINGS = ("epochs=1", "per_class=2", "batch_size=4", "loss.auxiliary_steps=0")
SCRATCH = ["--recipe", "scratch", "--jobs", "2", "-q", *(f"--set={setting}" for setting in SETTINGS)]
SHALLOW = [flag.replace("--model-set=", "--set=model_settings.") for flag in shallow.PYRAMID]
SMALL = SCRATCH + SHALLOW
# two rows of a table, once
PAIR = [*SMALL, "--seeds", "1", "--only", "none", "--only", "anchors"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ablate") / "faces"
    write_faces(folder, FaceOptions(count=90, subjects=30, size=48), workers=1)
    return folder


def ablate(*arguments: str | Path):
    return CliRunner().invoke(main, ["ablate", *map(str, arguments)])


class Inline(subprocess.CompletedProcess):
    """A run in this process, in the place of one of its own: importing PyTorch again is most of the time of a few
    steps. It reads its plan from the folder like the other, and has ended once it was made."""

    stdin = None

    def __init__(self, command: list[str], **_: object) -> None:
        assert command[1:3] == ["-m", pool.__name__]
        threads = torch.get_num_threads()
        super().__init__(command, pool._work(Path(command[3])))
        torch.set_num_threads(threads)

    def poll(self) -> int:
        return self.returncode

    def wait(self, timeout: float) -> int:
        return self.returncode


@contextlib.contextmanager
def inline() -> Iterator[None]:
    names = {name: getattr(subprocess, name) for name in ("PIPE", "STDOUT", "TimeoutExpired")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "subprocess", SimpleNamespace(Popen=Inline, **names))
        patch.setattr(pool, "_POLL", 0.0)
        yield


@pytest.fixture(scope="module")
def done(faces, tmp_path_factory) -> Path:
    """Two variants of a table."""
    out = tmp_path_factory.mktemp("ablations")
    result = ablate("head", "-o", out, "--data", faces, *PAIR)
    assert result.exit_code == 0, result.output
    assert "accuracy: anchors > none" in result.output
    assert "not run" in result.output  # the claims about the others
    return out


def test_what_it_writes(done, faces):
    written = done / "head"
    assert {path.name for path in written.iterdir()} == {"rows.jsonl", "table.md", "verdict.json", "plot.png"}
    loaded = read_results(written / "rows.jsonl")
    assert not loaded.problems
    assert [row.subject["variant"] for row in loaded.rows] == ["none", "anchors"]
    for row in loaded.rows:
        assert (row.kind, row.subject["seed"], row.subject["model"]) == ("ablation", 0, "arbex-nano")
        assert (row.metrics["epochs"], row.metrics["stopped_early"]) == (1, False)
        assert row.metrics["steps"] == 3  # 7 classes of 2 images in batches of 4
        assert sum(map(sum, row.metrics["confusion"])) == row.metrics["images"]
        assert row.metrics["seconds"] > 0
    none, anchors = (row.metrics["diagnosis"] for row in loaded.rows)
    assert (none["weight"], none["anchors"]) == (None, None)
    assert 0 < anchors["weight"] < 1
    verdict = json.loads((written / "verdict.json").read_text())
    assert [claim["verdict"] for claim in verdict["claims"]].count("not run") == 5
    table = (written / "table.md").read_text()
    assert f"Here: arbex-nano on {faces.name}." in table
    assert (written / "plot.png").stat().st_size > 10_000


def test_what_is_done_is_not_done_again(done, faces):
    before = times(done / "runs")
    result = ablate("head", "-o", done, "--data", faces, *PAIR, "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert set(printed["variants"]) == {"none", "anchors"}
    assert printed["failed"] == []
    assert times(done / "runs") == before


def test_what_would_be_done(done, faces):
    result = ablate("head", "-o", done, "--data", faces, *SMALL, "--seeds", "2", "--dry-run")
    assert "none, seed 0: done" in result.output
    assert "attention, seed 1: to do" in result.output
    assert "8 runs, 6 to do" in result.output
    rows = json.loads(ablate("head", "-o", done, "--data", faces, *SMALL, "--dry-run", "--json").stdout)
    assert [row["done"] for row in rows].count(True) == 2
    assert len(list((done / "runs").iterdir())) == 2


def test_a_run_that_fails_is_named_and_the_others_are_kept(done, faces, tmp_path):
    """Its settings were spoiled: the run's own error comes up."""
    shutil.copytree(done / "runs", tmp_path / "runs")
    arguments = ("head", "-o", tmp_path, "--data", faces, *PAIR)
    rows = json.loads(ablate(*arguments, "--dry-run", "--json").stdout)
    folder = Path(rows[0]["folder"])
    (folder / "result.json").unlink()
    (folder / "run" / "config.yaml").write_text("epochs: many")
    result = ablate(*arguments)
    assert result.exit_code == 1
    assert "failed: none, seed 0: " in result.output
    assert "epochs is 'many'" in result.output
    assert [row.subject["variant"] for row in read_results(tmp_path / "head/rows.jsonl").rows] == ["anchors"]


@pytest.fixture
def endless(faces, tmp_path):
    """A study whose runs take minutes, and the arguments to go on with it."""
    arguments = ["ablate", "augmentation", "-o", str(tmp_path / "out"), "--data", str(faces), *SMALL]
    arguments += ["--seeds=1", "--set=epochs=2000", "--set=checkpoint_every=2", "--set=log_every=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgefel.cli.main", *arguments],
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=heed,
    )
    yield process, tmp_path / "out"
    process.kill()
    process.wait()


def wait_for(what, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def workers(folder: Path) -> list[int]:
    """Processes whose command line names a run in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "ablation.pool" in line and str(folder) in line:
            found.append(int(entry.name))
    return found


def under_way(folder: Path) -> bool:
    logs = list(folder.glob("runs/*/run/metrics.csv"))
    return len(logs) == 2 and all(last_step(log) > 4 for log in logs)


def test_ctrl_c_saves_every_run(endless):
    process, folder = endless
    wait_for(lambda: under_way(folder))
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert not workers(folder)
    for run in folder.glob("runs/*"):
        steps = last_step(run / "run/metrics.csv")
        name = json.loads((run / "run/last.json").read_text())["checkpoint"]
        # saved at the step where it was stopped, not at the last multiple of two
        assert int(name[-6:]) >= steps
        assert not (run / "result.json").exists()
    assert process.stderr.read().decode().strip().endswith("interrupted")
    assert not (folder / "augmentation").exists()  # there is nothing to say yet


def test_runs_end_with_whoever_started_them(endless):
    process, folder = endless
    wait_for(lambda: under_way(folder))
    assert len(workers(folder)) == 2
    second = ablate("head", "-o", folder, *SMALL)
    assert second.exit_code == 2
    assert "another edgefel ablate works here" in second.output
    process.send_signal(signal.SIGKILL)
    wait_for(lambda: not workers(folder))
    assert all((run / "run/last.json").is_file() for run in folder.glob("runs/*"))


QUICK = ["--recipe", "quick", "--seeds", "1", "--jobs", "1", "-q", *SHALLOW]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Iterator[Path]:
    """A study by the recipe "quick", with a quarter of its faces and steps."""
    recipe, few, brief = RECIPES["quick"], {"count": 70, "subjects": 35}, {"per_class": 4, "batch_size": 14}
    before, others = recipe.pretraining
    shorter = Recipe(recipe.settings | brief, recipe.faces | few, (before | brief, others | few))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "quick", shorter)
        folder = tmp_path_factory.mktemp("pretrained")
        with inline():
            result = ablate("head", "-o", folder, *QUICK, "--only", "none")
        assert result.exit_code == 0, result.output
        yield folder


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_runs_start_from_streams_that_were_trained_before(pretrained):
    """The recipe as it is, with faces of its own: two sets of other people, streams that stay as they are."""
    assert len(list(pretrained.glob("faces-*"))) == 2
    (streams,) = pretrained.glob("runs/streams-*")
    (run,) = set(pretrained.glob("runs/*")) - {streams}
    checkpoint = load_checkpoint(run / "run").model.state_dict()
    before = load_checkpoint(streams / "run").model.state_dict()
    parts = [load_file(streams / part / "model.safetensors") for part in ("image_stream", "landmark_stream")]
    kept = {name: tensor for part in parts for name, tensor in part.items()}
    assert {name.split(".")[1] for name in kept} == {"image_stream", "landmark_stream"}
    for name, tensor in kept.items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(tensor, checkpoint[name]), name
    # the rest was learned
    assert not torch.equal(checkpoint["encoder.cls_token"], before["encoder.cls_token"])
    written = times(streams)
    assert ablate("head", "-o", pretrained, *QUICK, "--only", "none").exit_code == 0
    assert times(streams) == written


@inline()
def test_faces_of_their_own(pretrained):
    """A resizer that is trained with the streams of another study, on faces of 32 pixels."""
    (streams,) = pretrained.glob("runs/streams-*")
    written = times(streams)
    result = ablate("resolution", "-o", pretrained, *QUICK, "--only", "32 px, resizer")
    assert result.exit_code == 0, result.output
    sizes = [json.loads(f.read_text())["options"]["size"] for f in pretrained.glob("faces-*/dataset.json")]
    assert sorted(sizes) == [32, 64, 64]  # its own, and those of the other study and of the streams
    (row,) = read_results(pretrained / "resolution" / "rows.jsonl").rows
    assert row.subject["model"] == "arbex-nano+resizer"
    assert times(streams) == written


@inline()
def test_another_model(faces, tmp_path):
    name = "49 patches, tokens x 0.7"
    result = ablate("keep-rates", "-o", tmp_path, "--data", faces, *SCRATCH, "--seeds", "1", "--only", name)
    assert result.exit_code == 0, result.output
    (run,) = tmp_path.glob("runs/*")
    encoder = load_checkpoint(run / "run").model.config.encoder
    assert (encoder.keep_patches, encoder.keep_rates) == (49, (1.0, 1.0, 0.7, 0.7))
    (row,) = read_results(tmp_path / "keep-rates" / "rows.jsonl").rows
    assert row.subject["model"] == "apvit-nano"
    # what was changed by hand stands beside the recipe
    assert row.subject["set"]["per_class"] == 2
    assert 30e6 < row.metrics["macs"] < 60e6


@inline()
def test_a_resizer_on_a_data_set_from_given_streams(done, faces, tmp_path):
    """A run of another table gives its streams."""
    given = next(done.glob("runs/*/run"))
    arguments = ("--data", faces, *SMALL, "--seeds", "1", "--streams", given, "--only", "resizer, 48 px")
    result = ablate("resolution", "-o", tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    (streams,) = tmp_path.glob("runs/streams-*")
    weights = load_checkpoint(given).model.state_dict()
    for part in ("image_stream", "landmark_stream"):
        for name, tensor in load_file(streams / part / "model.safetensors").items():
            assert torch.equal(tensor, weights[name])
    (run,) = (folder for folder in tmp_path.glob("runs/*") if folder != streams)
    config = load_checkpoint(run / "run").model.config
    assert (config.name, config.input_size) == ("arbex-nano+resizer", 48)
    written = times(streams)
    assert ablate("resolution", "-o", tmp_path, *arguments).exit_code == 0
    assert times(streams) == written


def test_early_stopping(faces, tmp_path):
    """With hardly a learning rate, nothing gets better for long."""
    settings = ("--set=epochs=40", "--set=lr=1e-9", "--set=per_class=2", "--set=batch_size=4")
    arguments = (
        *SMALL[:5],
        *settings,
        "--set=loss.auxiliary_steps=0",
        "--seeds=1",
        "--only=none",
        "--patience=1",
    )
    result = ablate("head", "-o", tmp_path, "--data", faces, *arguments)
    assert result.exit_code == 0, result.output
    (row,) = read_results(tmp_path / "head/rows.jsonl").rows
    assert (row.subject["set"]["patience"], row.subject["set"]["eval_every"]) == (1, 1)
    epochs = row.metrics["epochs"]
    assert 2 <= epochs < 40
    assert (row.metrics["steps"], row.metrics["stopped_early"]) == (3 * epochs, True)
    assert row.notes == (f"stopped early, after {epochs} epochs; its best checkpoint",)
    (run,) = tmp_path.glob("runs/*/run")
    best = json.loads((run / "best.json").read_text())
    assert best["step"] < json.loads((run / "last.json").read_text())["step"] == row.metrics["steps"]


def test_streams_that_do_not_fit(done, faces, tmp_path):
    given = next(done.glob("runs/*/run"))
    settings = ("--set", "model=arbex-small", "--streams", given)
    result = ablate("head", "-o", tmp_path / "out", "--data", faces, *SMALL, *settings)
    assert result.exit_code == 2
    assert f"{given}: its streams do not fit arbex-small (encoder.image_stream." in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resolution", "--data", "nowhere"), "nowhere: no such folder"),
        (("head", "--streams", "nowhere"), "nowhere: no such checkpoint"),
        (("head", "--only", "everything"), "head has no variant 'everything'"),
        (("head", "--set", "epoch=3"), "write NAME=VALUE"),
        (("head", "--set", "epochs=0"), "epochs"),
        (("head", "--data", "nowhere"), "nowhere: no such folder"),
        (("head", "--layout", "raf-db"), "--layout belongs to --data"),
    ],
)
def test_bad_input(arguments, message, tmp_path):
    result = ablate(*arguments, "-o", tmp_path / "out", "-q")
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_data_without_a_test_split(faces, tmp_path):
    rows = (faces / "labels.csv").read_text().replace(",test,", ",val,")
    for source in faces.iterdir():
        if source.name != "labels.csv":
            (tmp_path / source.name).symlink_to(source)
    (tmp_path / "labels.csv").write_text(rows)
    result = ablate("head", "-o", tmp_path / "out", "--data", tmp_path, "-q")
    assert result.exit_code == 2
    assert "no images in the split 'test'" in result.output


def test_help_names_every_experiment():
    text = ablate("--help").output
    assert all(name in text for name in ("smoothing", "lambda", "balance", "edgefel ablate noise --seeds 5"))


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_file_where_the_folder_should_be(more, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    result = ablate("head", "-o", file, *more)
    assert result.exit_code == 2
    assert f"{file}: is a file; the runs need a folder" in result.output
    assert file.read_text() == "mine"
