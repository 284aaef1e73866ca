"""The papers' tables: figures as published, claims that the papers' own figures bear out, settings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS, NOISE_LOSSES, RESOLUTION
from edgefel.bench.experiments.ablation.plan import RECIPES, Study, plan
from edgefel.cli.ablate import EXPERIMENTS as OFFERED
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.models.registry import model_config
from edgefel.training.model import make_model


def test_the_command_offers_every_experiment():
    assert set(OFFERED) == set(EXPERIMENTS)
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_papers_own_figures_bear_out_what_is_called_their_claim(name):
    experiment = EXPERIMENTS[name]
    assert experiment.claims
    for claim in experiment.claims:
        better, worse = (
            experiment.variant(side).paper.get(claim.metric) for side in (claim.better, claim.worse)
        )
        if better is not None and worse is not None:
            assert better > worse, claim


@pytest.mark.parametrize(
    ("experiment", "variant", "accuracy"),
    [
        ("head", "anchors and attention", 0.7248),
        ("head", "attention", 0.6905),
        ("losses", "cls + anchor", 0.6887),
        ("anchors", "K = 20", 0.6943),
        ("noise", "20 %, K = 0", 0.5499),
        ("noise", "20 %, K = 10", 0.6033),
        ("smoothing", "11 %", 0.7248),
        ("smoothing", "40 %", 0.5666),
        ("lambda", "λ_cls = 0.1", 0.3567),
        ("augmentation", "without", 0.7034),
    ],
)
def test_figures_are_those_of_the_papers(experiment, variant, accuracy):
    assert EXPERIMENTS[experiment].variant(variant).paper["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_variant_is_a_training_that_edgefel_knows(name, recipe):
    study = Study(EXPERIMENTS[name], Path("out"), recipe, seeds=(0,))
    runs = plan(study)
    assert [run.variant for run in runs] == [variant.name for variant in EXPERIMENTS[name].variants]
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        settings = dict(run.config.model_settings)
        assert model_config(run.config.model, **settings).name == run.config.model


@pytest.mark.parametrize("experiment", [RESOLUTION.on_data, NOISE_LOSSES.on_votes], ids=lambda one: one.name)
def test_variants_on_a_data_set_are_trainings_too(experiment, tmp_path):
    for run in plan(Study(experiment, tmp_path, "scratch", seeds=(0,), data=tmp_path / "mine")):
        make_model(run.config, EXPRESSIONS_7)
    usual = {variant.name for variant in EXPERIMENTS[experiment.name].variants}
    assert {variant.name for variant in experiment.variants} - usual


def test_what_the_variants_of_the_head_are_made_of():
    runs = {run.variant: run for run in plan(Study(EXPERIMENTS["head"], Path("out"), "scratch", (0,)))}
    heads = {name: make_model(run.config, EXPRESSIONS_7).head for name, run in runs.items()}
    found = {name: (head.anchors is not None, head.attentive is not None) for name, head in heads.items()}
    assert found == {
        "none": (False, False),
        "anchors": (True, False),
        "attention": (False, True),
        "anchors and attention": (True, True),
    }
    assert heads["anchors"].anchors.shape[:2] == (7, 10)


def test_augmentation_without_turns_every_part_off():
    run = next(run for run in plan(Study(EXPERIMENTS["augmentation"], Path("o"))) if run.variant == "without")
    amounts = {name: value for name, value in vars(run.config.augment).items() if name != "erase_area"}
    assert set(amounts.values()) == {0.0}
