from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.models.registry import list_models
from edgefel.training.config import LossConfig, TrainConfig, dump_config, load_config, settings


def test_defaults_are_the_recipe_of_the_paper():
    config = TrainConfig()
    assert (config.lr, config.lr_decay, config.epochs) == (3e-4, 0.995, 1000)
    assert (config.per_class, config.per_group, config.loss.smoothing) == (500, 512, 0.11)
    assert (config.loss.lambda_cls, config.loss.lambda_anchor, config.loss.lambda_center) == (1, 1, 1)
    assert (config.loss.correction_ramp, config.loss.anchor_loss) == ("linear", "unbounded")
    assert (config.augment.erase_probability, config.augment.erase_area) == (1.0, 0.05)


def test_yaml_round_trip(tmp_path):
    config = TrainConfig(
        model="arbex-nano",
        data="faces",
        max_minutes=2.5,
        num_classes=8,
        model_settings={"head": {"anchors_per_class": 4}},
        loss=LossConfig(anchor_loss="hinge"),
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_a_partial_file_keeps_the_other_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("lr: 3e-3\nloss:\n  smoothing: 0\ncompute:\n  devices: 2\n")
    config = load_config(path)
    # YAML 1.1 reads 3e-3 as text
    assert config.lr == 3e-3
    assert config.loss == LossConfig(smoothing=0.0)
    assert config.compute.devices == "2"


def test_files_of_earlier_versions_call_the_correction_ramp_trust(tmp_path):
    path = tmp_path / "config.yaml"
    config = TrainConfig(loss=LossConfig(correction_ramp="none"))
    path.write_text(dump_config(config).replace("correction_ramp", "trust"))
    assert "trust: none" in path.read_text()
    assert load_config(path) == config


def test_adam_of_earlier_versions_is_adamw_unless_it_decayed_weights(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: adam\nweight_decay: 0.0\n")
    assert load_config(path) == TrainConfig()
    path.write_text("optimizer: adam\nweight_decay: 0.01\n")
    with pytest.raises(EdgefelError, match=r"config.yaml: optimizer is 'adam' with weight_decay.* use adamw"):
        load_config(path)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_of_half_precision_have_no_average(precision):
    with pytest.raises(
        EdgefelError, match="ema is 0.99 with precision .*16-true.* use --precision bf16-mixed"
    ):
        TrainConfig(ema=0.99).replaced({"compute.precision": precision})
    TrainConfig(ema=0.99).replaced({"compute.precision": "bf16-mixed"})


def test_dotted_changes_override_and_are_checked():
    config = TrainConfig().replaced({"lr": 0.01, "loss.smoothing": 0.2})
    assert (config.lr, config.loss.smoothing) == (0.01, 0.2)
    with pytest.raises(EdgefelError, match=r"loss.smoothing is 2.* at most 0.999"):
        config.replaced({"loss.smoothing": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: -1", r"lr is -1.0; it must be more than 0"),
        ("lr: .nan", r"lr is nan"),
        ("epochs: 0", r"epochs is 0; it must be at least 1"),
        ("epochs: 1.5", r"epochs is 1.5; it must be a whole number"),
        ("epochs: true", r"epochs is True; it must be a whole number"),
        ("freeze_backbones: 1", r"freeze_backbones is 1; it must be true or false"),
        ("learning_rate: 1", r"unknown setting learning_rate; known here: model, data.* lr,"),
        ("loss: {smooth: 1}", r"unknown setting loss.smooth; known here: criterion, smoothing"),
        ("loss: 3", r"loss must hold names and values"),
        ("loss: {correction_ramp: maybe}", r"loss.correction_ramp is 'maybe'; choose one of linear, none"),
        ("loss: {trust: none, correction_ramp: none}", r"unknown setting loss.trust"),
        ("- 1", r"the file must hold names and values"),
        ("a: [", r"not valid YAML"),
        ("model_settings: 3", r"model_settings: expected names and values"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(EdgefelError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_name_a_model_and_the_command_that_runs_them(path):
    config = load_config(path)
    assert config.model in list_models()
    assert not config.data
    assert f"edgefel train -c recipes/{path.name} --data " in path.read_text()


def test_a_missing_file(tmp_path):
    with pytest.raises(EdgefelError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_every_setting_is_explained_and_frozen():
    paths = [path for path, _, limits in settings() if limits.help.endswith(".")]
    assert len(paths) == len(list(settings())) == len(set(paths))
    assert {"lr", "loss.smoothing", "augment.noise", "compute.devices"} <= set(paths)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]
