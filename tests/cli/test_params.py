"""Options of several commands: which belong together, which exclude each other, and what they leave behind."""

from __future__ import annotations

import os

import click
import pytest
from click.testing import CliRunner

from edgefel.cli import params
from edgefel.data.image_headers import PIXELS_VARIABLE
from edgefel.data.open import LAYOUTS
from edgefel.errors import EdgefelError
from edgefel.runtime import manifest, quality
from edgefel.runtime.backends import base
from edgefel.workers import usable_cores


def test_names_are_those_of_what_they_name():
    """They are written out, so that help and completion need nothing else."""
    assert tuple(base.BACKENDS) == params.BACKENDS
    assert tuple(manifest.PRECISIONS) == params.PRECISIONS
    assert tuple(LAYOUTS) == params.LAYOUTS
    (option,) = click.command()(params.min_quality(lambda min_quality: None)).params
    assert option.default == quality.DEFAULT_LEAST


def call(command: click.Command, *arguments: str) -> str:
    """What it prints; an EdgefelError's text."""
    result = CliRunner().invoke(command, arguments)
    if isinstance(result.exception, EdgefelError):
        return str(result.exception)
    assert result.exit_code in (0, 2), result.output
    return result.output.strip()


@click.command()
@params.data("Images.")
@params.layout
@click.option("--every-n", type=int, default=1)
@click.option("--grid", type=int)
def related(**values: object) -> None:
    params.refuse_layout_alone()
    params.refuse_alone("every_n", "grid")
    params.refuse_both("data", "grid")
    click.echo(params.given("every_n"))


def test_options_that_belong_together():
    assert call(related) == "False"
    assert call(related, "--grid", "2", "--every-n", "1") == "True"
    assert call(related, "--every-n", "1") == "--every-n belongs to --grid; give that too, or leave it out"
    assert call(related, "--layout", "raf-db") == "--layout belongs to --data; give that too, or leave it out"
    assert (
        call(related, "--data", "x", "--grid", "2") == "--data and --grid exclude each other; leave one out"
    )


@click.command()
@params.layout
def with_layout(layout: str | None) -> None:
    click.echo(f"{layout} {os.environ.get(PIXELS_VARIABLE)}")


def test_votes_become_a_part_of_the_layout():
    assert call(with_layout) == "None None"
    assert call(with_layout, "--votes", "label.csv") == "fer-plus:label.csv None"
    assert call(with_layout, "--layout", "fer-plus-7", "--votes", "label.csv") == "fer-plus-7:label.csv None"


@pytest.mark.parametrize("before", [None, "7"])
def test_the_largest_image_is_limited_until_the_command_ends(monkeypatch, before):
    monkeypatch.delenv(PIXELS_VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(PIXELS_VARIABLE, before)
    assert call(with_layout, "--max-pixels", "100") == "None 100"
    assert os.environ.get(PIXELS_VARIABLE) == before


@click.command()
@params.workers("Threads")
@params.precisions(default="fp32", help="Files.")
def listed(workers: int, precisions: tuple[str, ...]) -> None:
    click.echo(f"{workers} {' '.join(precisions)}")


def test_lists_are_joined_and_cores_are_counted():
    assert call(listed) == f"{usable_cores()} fp32"
    assert (
        call(listed, "--workers", "3", "--precision", "fp16,int8", "--precision", "int8,fp32")
        == "3 fp16 int8 fp32"
    )
    assert "'fp4' is not one of fp32, fp16, int8, int8+fp16, fp8" in call(listed, "--precision", "fp16,fp4")
