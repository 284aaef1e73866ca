"""The options of a network reach `edgefel.load`, and what was loaded is said."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgefel.cli.network import load_network, network_options
from edgefel.errors import EdgefelError


@click.command()
@network_options
@click.option("--other", default=3)
def command(network: dict, other: int) -> None:
    click.echo(f"{other} {sorted(network.items())}")


def test_the_options_reach_the_command_as_one():
    result = CliRunner().invoke(
        command, ["--threads", "2", "--min-face", "0.25", "--detector-model", "yunet.onnx"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "3 [('backend', 'auto'), ('detector', None), ('detector_model', "
        f"{Path('yunet.onnx')!r}), ('force', False), ('min_face', 0.25), "
        "('min_quality', 0.5), ('mirror', False), ('precision', None), ('threads', 2)]\n"
    )


@pytest.mark.parametrize("verbose", [True, False])
def test_what_was_loaded_is_said(tiny, verbose):
    network = {"backend": "onnxruntime", "detector": "none"}
    model, lines = load_network(tiny, network, (1, 2), verbose=verbose, as_json=False)
    with model:
        assert lines[0] == model.session.headline
        assert ("no detection: each image is a face" in lines) is verbose
        assert model._warm == {1, 2}


def test_what_is_refused_is_not_loaded(tiny):
    with pytest.raises(EdgefelError, match="--detector-model"):
        load_network(tiny, {"detector": "haar", "detector_model": Path("x")}, verbose=False, as_json=False)
