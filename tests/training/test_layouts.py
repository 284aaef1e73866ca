"""Training on data sets in their published layouts."""

from __future__ import annotations

from click.testing import CliRunner
from data.readers.trees_affectnet import write_affectnet
from data.readers.trees_expw import faces_of_every_class, write_expw

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import LAYOUTS
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.config import load_config

FLAGS = ["--model", "poster-v2-nano", "--accelerator", "cpu", "--workers", 0, "--quiet"]
FLAGS += ["--epochs", 1, "--batch-size", 7, "--per-class", 1]


def train(*arguments: object):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_layout_decides_what_is_learned_and_stays_with_the_run(tmp_path):
    write_affectnet(tmp_path / "set")  # as affectnet, which is recognized first, it has contempt too
    run = tmp_path / "run"
    done = train("--data", tmp_path / "set", "--layout", "affectnet-7", "-o", run, *FLAGS)
    assert done.exit_code == 0, done.output
    assert load_config(run / "config.yaml").layout == "affectnet-7"
    assert load_checkpoint(run).labels == EXPRESSIONS_7
    done = train("--resume", run, "--layout", "affectnet")
    assert done.exit_code == 2
    assert "layout cannot change when a run is resumed" in done.stderr


def test_an_unknown_layout_is_one_line_with_the_known_ones(tmp_path):
    write_affectnet(tmp_path / "set")
    done = train("--data", tmp_path / "set", "--layout", "imagenet", "-o", tmp_path / "run", *FLAGS)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line == f"error: layout 'imagenet' is not known; choose one of: {', '.join(LAYOUTS)}"
    assert not (tmp_path / "run").exists()


def test_a_set_without_splits_is_told_how_to_get_them(tmp_path):
    write_expw(tmp_path / "set", faces_of_every_class())
    done = train("--data", tmp_path / "set", "-o", tmp_path / "run", *FLAGS)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "no pictures in the split 'train' (it has no splits)" in line
    assert line.endswith(f"edgefel data prepare {tmp_path / 'set'} -o OUT --splits 0.8,0.1,0.1")
    assert not (tmp_path / "run").exists()
