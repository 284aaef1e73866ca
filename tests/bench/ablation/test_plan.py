"""Which runs a study needs: shared where settings are equal, told apart where anything differs that matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.bench.ablation.papers import EXPERIMENTS
from edgefel.bench.ablation.plan import Study, parse_changes, plan, pretraining
from edgefel.errors import EdgefelError


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
    assert study.faces is None
    assert {run.config.data for run in plan(study)} == {str(tmp_path / "mine")}
    rendered = Study(EXPERIMENTS["balance"], tmp_path)
    assert rendered.faces.long_tail == 20
    assert rendered.data_folder.parent == tmp_path


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
    assert parse_changes(["epochs=3", "loss.trust=none", "lr=1.0e-3", "model_settings.head.delta=2"]) == {
        "epochs": 3,
        "loss.trust": "none",
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
    assert streams(changes={"loss.trust": "none", "model_settings.head.delta": 2}) == usual
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
    assert study.others.seed != study.faces.seed
    assert before.config.data != plan(study)[0].config.data


def test_where_the_folder_lies_makes_no_other_run():
    here, there = (plan(Study(EXPERIMENTS["head"], Path(folder))) for folder in ("a", "b/c"))
    assert [run.folder.name for run in here] == [run.folder.name for run in there]
