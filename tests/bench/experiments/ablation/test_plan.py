"""Which runs a study needs: shared where settings are equal, told apart where anything differs that matters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import (
    RECIPES,
    Study,
    backbones,
    parse_changes,
    plan,
    pretraining,
)
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import save_checkpoint
from edgefel.models.registry import build_model
from edgefel.training.model import make_model


def folders(experiment: str, **study) -> dict[tuple[str, int], str]:
    runs = plan(Study(EXPERIMENTS[experiment], Path("out"), **study))
    return {(run.variant, run.seed): run.folder.name for run in runs}


def test_experiments_share_the_runs_that_they_have_in_common():
    head, noise, losses = folders("head"), folders("noise"), folders("losses")
    for seed in range(3):
        assert head["attention", seed] == noise["0 %, K = 0", seed]
        assert head["anchors and attention", seed] == noise["0 %, K = 10", seed]
        assert head["anchors and attention", seed] == losses["cls + anchor + center", seed]
    everything = [name for found in (head, noise, losses) for name in found.values()]
    assert len(set(everything)) == len(everything) - 3 * 3


def test_what_makes_another_run():
    usual = folders("head")
    assert folders("head") == usual
    for other in (
        {"changes": {"epochs": 3}},
        {"changes": {"model_settings.head.delta": 2.0}},
        {"recipe": "quick"},
        {"data": Path("RAF-DB")},
        {"data": Path("RAF-DB"), "layout": "raf-db"},
    ):
        assert not set(folders("head", **other).values()) & set(usual.values()), other
    # other faces: the long tail of the experiment
    assert folders("balance")["balanced", 0] != usual["anchors and attention", 0]


@pytest.mark.parametrize(
    "change", ["compute.workers", "compute.accelerator", "compute.cache_mb", "compute.devices"]
)
def test_where_it_runs_makes_no_other_run(change):
    value = {"compute.accelerator": "cpu", "compute.devices": "1"}.get(change, 1)
    assert folders("head", changes={change: value}) == folders("head")


def test_seeds_differ_in_their_seed_alone():
    runs = {run.seed: run for run in plan(Study(EXPERIMENTS["head"], Path("out"), only=("none",)))}
    assert [run.config.seed for run in runs.values()] == [0, 1, 2]
    assert runs[0].config.replaced({"seed": 1}) == runs[1].config


def test_seed_by_seed():
    """An interrupted study has whole tables of the first seeds."""
    assert [run.seed for run in plan(Study(EXPERIMENTS["head"], Path("out"), seeds=(4, 2)))] == [4] * 4 + [
        2
    ] * 4


def test_given_data_are_used_and_no_faces_are_rendered(tmp_path):
    study = Study(EXPERIMENTS["balance"], tmp_path, data=tmp_path / "mine")
    assert study.faces == ()
    assert {run.config.data for run in plan(study)} == {str(tmp_path / "mine")}
    rendered = Study(EXPERIMENTS["balance"], tmp_path)
    assert [faces.long_tail for faces in rendered.faces] == [20]
    assert {rendered.data_folder(variant).parent for variant in rendered.variants} == {tmp_path}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "giant"}, "recipe 'giant': choose one of nano, scratch, full, quick"),
        ({"seeds": ()}, "give different numbers of at least 0"),
        ({"seeds": (1, 1)}, "give different numbers"),
        ({"seeds": (-1,)}, "give different numbers"),
        ({"only": ("all",)}, "head has no variant 'all'; choose from: 'none', 'anchors'"),
    ],
)
def test_studies_that_make_no_sense(options, message):
    with pytest.raises(EdgefelError, match=message):
        Study(EXPERIMENTS["head"], Path("out"), **options)


def test_settings_that_make_no_sense_are_refused_before_anything_is_trained():
    with pytest.raises(EdgefelError, match="epochs"):
        plan(Study(EXPERIMENTS["head"], Path("out"), changes={"epochs": 0}))


def test_changes_are_read_as_in_a_configuration_file():
    assert parse_changes(
        ["epochs=3", "loss.correction_ramp=none", "lr=1.0e-3", "model_settings.head.delta=2"]
    ) == {
        "epochs": 3,
        "loss.correction_ramp": "none",
        "lr": 1e-3,
        "model_settings.head.delta": 2,
    }
    for bad in ("epochs", "=3", "epoch=3", "loss=1"):
        with pytest.raises(EdgefelError, match="write NAME=VALUE"):
            parse_changes([bad])
    with pytest.raises(EdgefelError, match="not valid YAML"):
        parse_changes(["epochs=[1"])


def test_streams_are_trained_once_for_all_that_can_start_from_them():
    def streams(**study) -> str:
        return pretraining(Study(EXPERIMENTS["head"], Path("out"), **study)).folder.name

    usual = streams()
    assert usual.startswith("streams-")
    # other seeds, data or heads start from the same
    assert streams(seeds=(7,)) == streams(data=Path("RAF-DB")) == usual
    assert streams(changes={"loss.correction_ramp": "none", "model_settings.head.delta": 2}) == usual
    assert streams(changes={"model_settings.encoder.depth": 3}) != usual
    assert pretraining(Study(EXPERIMENTS["head"], Path("out"), "scratch")) is None


def test_runs_start_from_the_streams_and_leave_them_alone():
    study = Study(EXPERIMENTS["head"], Path("out"))
    starts = [Path(path).name for path in plan(study)[0].config.init_from]
    assert starts == ["image_stream", "landmark_stream"]
    assert all(run.config.freeze_backbones for run in plan(study))
    before = pretraining(study)
    assert not before.config.init_from
    assert not before.config.freeze_backbones
    # of other people: no face that is judged was seen before
    assert study.others.seed != study.faces[0].seed
    assert before.config.data != plan(study)[0].config.data


def test_given_streams_take_the_place_of_those_of_the_recipe(tmp_path):
    given = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        given.append(tmp_path / f"network-{seed}")
        model = build_model("arbex-nano", num_classes=8)
        save_checkpoint(given[-1], model, EXPRESSIONS_8, default_preprocessing(112).to_dict())
    studies = [
        Study(EXPERIMENTS["head"], Path("out"), recipe, streams=path) for path in given for recipe in RECIPES
    ]
    starts = {study.streams_folder for study in studies}
    assert len(starts) == len(given)
    for study in studies:
        assert pretraining(study) is None
        assert study.others is None
        for run in plan(study):
            assert [Path(path).parent.name for path in run.config.init_from] == [
                study.streams_folder.name
            ] * 2
    assert not set(folders("head").values()) & set(folders("head", streams=given[0]).values())
    with pytest.raises(EdgefelError, match="no such checkpoint"):
        plan(Study(EXPERIMENTS["head"], Path("out"), streams=tmp_path / "none"))


def test_where_the_folder_lies_makes_no_other_run():
    here, there = (plan(Study(EXPERIMENTS["head"], Path(folder))) for folder in ("a", "b/c"))
    assert [run.folder.name for run in here] == [run.folder.name for run in there]


def test_variants_may_have_faces_of_their_own(tmp_path):
    study = Study(EXPERIMENTS["resolution"], tmp_path, seeds=(0,))
    assert [faces.size for faces in study.faces] == [32, 48, 64, 96]
    # nothing but the number of pixels differs
    assert len({dataclasses.replace(faces, size=32) for faces in study.faces}) == 1
    runs = {run.variant: run.config for run in plan(study)}
    for side in (32, 48, 64, 96):
        without, resized = runs[f"{side} px"], runs[f"{side} px, resizer"]
        assert without.data == resized.data
        assert (without.model, resized.model) == ("arbex-nano", "arbex-nano+resizer")
        assert resized.model_settings["input_size"] == max(side, 48)
        assert without.init_from == resized.init_from
        assert not resized.freeze_backbones
    assert len({config.data for config in runs.values()}) == 4
    with pytest.raises(EdgefelError, match="resolution varies the faces themselves; leave out the data"):
        Study(EXPERIMENTS["resolution"], tmp_path, data=tmp_path / "mine")


def test_an_experiment_may_be_about_another_model():
    study = Study(EXPERIMENTS["keep-rates"], Path("out"), seeds=(0,))
    assert study.model == "apvit-nano"
    assert Study(EXPERIMENTS["keep-rates"], Path("out"), "full").model == "apvit"
    for run in plan(study):
        assert run.config.model == "apvit-nano"
        # the only one of the streams that it has
        assert [Path(path).name for path in run.config.init_from] == ["image_stream"]
    rates = {run.variant: run.config.model_settings for run in plan(study)}
    assert rates["160 patches, tokens x 0.9"] == {}
    assert rates["all"] == {"encoder": {"keep_patches": 196, "keep_rates": [1.0] * 4}}
    full = {run.variant: run.config for run in plan(Study(EXPERIMENTS["keep-rates"], Path("out"), "full"))}
    assert full["49 patches, tokens x 0.7"].model_settings["encoder"]["keep_rates"] == [1.0] * 4 + [0.7] * 4


@pytest.mark.parametrize("model", ["apvit-nano", "poster-v2-nano", "apvit-nano+reliability"])
def test_streams_of_models_without_head_or_landmarks(model):
    study = Study(EXPERIMENTS["smoothing"], Path("out"), changes={"model": model})
    before = pretraining(study)
    assert before.config.model == model
    names = set(backbones(before.config.model))
    assert names == {"image_stream"} | (set() if "apvit" in model else {"landmark_stream"})
    assert "head" in before.config.model_settings or not model.endswith("reliability")
    make_model(before.config, EXPRESSIONS_7)


def test_losses_against_wrong_labels_share_the_runs_with_anchors():
    noise, losses = folders("noise"), folders("noise-losses")
    for percent in (0, 10, 20, 30):
        assert losses[f"{percent} %, label smoothing", 0] == noise[f"{percent} %, K = 10", 0]
        assert losses[f"{percent} %, F-PDLS", 0] not in noise.values()
