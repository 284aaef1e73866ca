"""Training on data sets in their published layouts."""

from __future__ import annotations

import json
from shutil import copytree

import pytest
from click.testing import CliRunner
from data.readers.trees_affectnet import write_affectnet
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_fer_plus import write_disagreeing

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.open import LAYOUTS
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.config import TrainConfig, load_config
from edgefel.training.data import open_data

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
    assert "no images in the split 'train' (it has no splits)" in line
    assert line.endswith(f"edgefel data prepare {tmp_path / 'set'} -o OUT --splits 0.8,0.1,0.1")
    assert not (tmp_path / "run").exists()


def test_the_file_of_votes_and_what_was_left_out_stay_with_the_run(tmp_path):
    write_disagreeing(tmp_path / "set")
    run = tmp_path / "run"
    chosen = ("--layout", "fer-plus-7", "--votes", "label.csv", "--without-copies")
    done = train("--data", tmp_path / "set", *chosen, "-o", run, *FLAGS)
    assert done.exit_code == 0, done.output
    assert "warning: " in done.stderr
    assert "label.csv; fer2013new.csv differs in the votes of 3 of 32 images" in done.stderr
    said = "left out 3 of 14 training images, which have a copy in val or test: 2 an equal file, 1 one that"
    assert said in done.stderr
    config = load_config(run / "config.yaml")
    assert (config.votes, config.without_copies) == ("label.csv", True)
    left_out = json.loads((run / "left-out.json").read_text())
    assert [path.rsplit("/", 1)[1] for path in left_out["equal_files"]] == [
        "fer0000000.png",
        "fer0000002.png",
    ]
    assert [path.rsplit("/", 1)[1] for path in left_out["look_alikes"]] == ["fer0000004.png"]
    assert left_out["of"] == 14
    again = train("--resume", run, "--epochs", 2)
    assert again.exit_code == 0, again.output
    assert said in again.stderr
    assert (load_config(run / "config.yaml").votes, load_config(run / "config.yaml").without_copies) == (
        "label.csv",
        True,
    )
    for change in (("--votes", "fer2013new.csv"), ("--no-without-copies",)):
        refused = train("--resume", run, *change)
        assert refused.exit_code == 2
        assert "cannot change when a run is resumed" in refused.stderr


def opened(folder, **changes):
    config = TrainConfig(data=str(folder), per_class=1, per_group=1, **changes)
    return open_data(config, default_preprocessing(112))


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
def test_training_takes_what_the_file_says_and_no_copies(tmp_path):
    write_disagreeing(tmp_path)
    published, labels = opened(tmp_path), opened(tmp_path, votes="label.csv")
    assert (published.votes.file, labels.votes.file) == ("fer2013new.csv", "label.csv")
    assert (len(published.train.dataset), published.left_out) == (16, None)
    left = opened(tmp_path, without_copies=True)
    names = {sample.path.name for sample in left.train.dataset.samples}
    assert names == {f"fer{number:07d}.png" for number in range(16) if number not in (0, 2, 4)}
    assert len(left.targets) == len(left.train.dataset) == 13


def test_copies_are_left_out_of_any_data_set_and_what_cannot_be_is_refused(faces_folder, tmp_path):
    folder = copytree(faces_folder, tmp_path / "faces")
    lines = (folder / "labels.csv").read_text().splitlines()
    of = {split: next(line for line in lines[1:] if f",{split}," in line) for split in ("train", "test")}
    copied, original = (folder / of[split].split(",")[0] for split in ("train", "test"))
    copied.write_bytes(original.read_bytes())
    left = opened(folder, without_copies=True)
    assert left.left_out.equal_files == (str(copied),)
    assert left.votes is None
    (folder / "labels.csv").write_text(
        "\n".join(line for line in lines if ",val," not in line and ",test," not in line)
    )
    with pytest.raises(EdgefelError, match="has neither val nor test"):
        opened(folder, without_copies=True)


def test_a_run_by_the_default_votes_never_goes_on_by_others(tmp_path):
    write_disagreeing(tmp_path / "set")
    run = tmp_path / "run"
    done = train("--data", tmp_path / "set", "--layout", "fer-plus-7", "-o", run, *FLAGS)
    assert done.exit_code == 0, done.output
    assert load_config(run / "config.yaml").votes == "fer2013new.csv"
    (tmp_path / "set/fer2013new.csv").unlink()
    again = train("--resume", run, "--epochs", 2)
    assert again.exit_code == 2
    assert "no fer2013new.csv of FER+ in it" in again.stderr
