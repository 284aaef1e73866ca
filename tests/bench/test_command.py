"""What every bench prints, and what it says it ran on."""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np
import pytest

from edgefel import __version__
from edgefel.bench import rendering
from edgefel.bench.command import run_bench, versions
from edgefel.errors import EdgefelError


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", dest="count", type=int, default=3)
    return parser


def test_options_go_in_by_name_and_the_row_comes_out_as_json(parser, capsys):
    assert run_bench(parser, lambda count: {"counted": count}, ["--rounds", "5"]) == 0
    assert run_bench(parser, lambda count: {"counted": count}, []) == 0
    said = capsys.readouterr()
    assert said.out == '{\n  "counted": 5\n}\n{\n  "counted": 3\n}\n'
    assert said.err == ""


def test_what_cannot_be_measured_is_one_line_and_2(parser, capsys):
    def refuse(count):
        raise EdgefelError(f"{count} rounds: give at least 4")

    assert run_bench(parser, refuse, []) == 2
    assert capsys.readouterr() == ("", "error: 3 rounds: give at least 4\n")


def test_a_defect_is_not_taken_for_bad_arguments(parser):
    with pytest.raises(ZeroDivisionError):
        run_bench(parser, lambda count: {"counted": 1 // 0}, [])


def test_versions_are_those_of_the_modules_that_ran():
    assert list(versions(numpy=np).items()) == [
        ("edgefel", __version__),
        ("numpy", np.__version__),
        ("python", platform.python_version()),
    ]


def test_the_rendering_bench_prints_its_row(monkeypatch, capsys):
    monkeypatch.setattr(rendering, "FACES", 1)
    assert rendering.main([]) == 0
    assert json.loads(capsys.readouterr().out)["faces_per_round"] == 1
