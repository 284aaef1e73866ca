"""`edgefel train`: how its options become settings; tests/training runs it."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from edgefel.cli import train
from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.training import loop
from edgefel.training.config import TrainConfig, settings


def run(*arguments: str):
    return CliRunner().invoke(main, ["train", *arguments])


def test_every_setting_is_an_option_under_its_heading():
    text = run("--help").output
    sections = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    listed = dict(zip(sections[1::2], sections[2::2], strict=True))
    flags = {
        title: set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", body, re.MULTILINE))
        for title, body in listed.items()
    }
    assert {"--config", "--output", "--resume", "--max-pixels", "--quiet", "--help"} == flags["Run"]
    assert {"--model", "--data", "--model-set", "--init-from", "--seed"} < flags["Model and data"]
    assert {"--epochs", "--lr", "--batch-size"} < flags["Recipe"]
    assert "--devices" in flags["Where it runs"]
    assert sum(map(len, flags.values())) == len(list(settings())) + len(flags["Run"])


@pytest.fixture
def given(monkeypatch) -> list[TrainConfig]:
    """The configurations that training was asked for; nothing is trained."""
    asked: list[TrainConfig] = []

    def train_nothing(config: TrainConfig, output: object, quiet: bool, quantize: object = None) -> object:
        asked.append(config)
        raise EdgefelError("not trained")

    monkeypatch.setattr(loop, "train", train_nothing)
    return asked


def test_flags_go_before_the_file_and_the_file_before_the_defaults(given, tmp_path):
    (tmp_path / "recipe.yaml").write_text("epochs: 3\nlr: 0.5\nloss:\n  smoothing: 0.25\n")
    result = run("-c", str(tmp_path / "recipe.yaml"), "-o", "out", "--lr", "0.1", "--freeze-backbones")
    assert "not trained" in result.stderr
    (config,) = given
    assert (config.epochs, config.lr, config.loss.smoothing) == (3, 0.1, 0.25)
    assert config.freeze_backbones
    assert config.batch_size == TrainConfig().batch_size


def test_settings_of_the_model_are_nested_and_read_as_yaml(given):
    run("-o", "out", "--model-set", "head.anchors_per_class=4", "--model-set", "head.hidden=[8, 9]")
    assert given[0].model_settings == {"head": {"anchors_per_class": 4, "hidden": [8, 9]}}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("=4",), "--model-set '=4': write NAME=VALUE"),
        (("head=1", "head.delta=2"), "'head.delta=2': head is given a value of its own too; leave one out"),
        (("head.delta=[",), "'head.delta=[': the value is not valid YAML"),
    ],
)
def test_settings_of_the_model_that_cannot_be_read(pairs, message):
    with pytest.raises(EdgefelError) as caught:
        train._model_settings(pairs)
    assert message in str(caught.value)


def test_a_new_run_and_an_old_one_exclude_each_other(tmp_path):
    for arguments in ((), ("-o", "out", "--resume", str(tmp_path))):
        assert "give either -o RUN to start a run or --resume RUN to continue one" in run(*arguments).stderr
    result = run("--resume", str(tmp_path), "-c", "recipe.yaml")
    assert f"--resume uses the settings stored in {tmp_path}; leave out --config" in result.stderr
