"""Progress: steps that follow each other, each as long as it was announced; silent unless somebody draws it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.cli.console import Bars
from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.progress import SILENT, Progress


class Steps(Progress):
    """The steps, and the units of each: announced and done."""

    def __init__(self) -> None:
        self.steps: list[list[object]] = []

    def start(self, step: str, total: int | None = None) -> None:
        self.steps.append([step, total, 0])

    def advance(self, units: int = 1) -> None:
        self.steps[-1][2] += units


def test_an_archive_is_written_in_steps_or_in_silence(tmp_path: Path, capfd) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    options = DeployOptions(without_kernels=True)
    progress = Steps()
    write_deploy_folder(bundle, tmp_path / "told.tar", options, progress)
    assert progress.steps
    for step, total, done in progress.steps:
        assert total in (None, done), step
    write_deploy_folder(bundle, tmp_path / "silent.tar", options, SILENT)
    assert (tmp_path / "silent.tar").stat().st_size == (tmp_path / "told.tar").stat().st_size
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["start", "advance"])
def test_the_bars_of_the_command_line_take_the_same_calls(name):
    drawn, silent = getattr(Bars, name), getattr(Progress, name)
    assert drawn is not silent
    assert inspect.signature(drawn) == inspect.signature(silent)


def test_the_bars_count_the_units_of_a_step_and_end_it_with_the_next(capfd):
    with Bars() as bars:
        bars.start("first", 3)
        bars.advance()
        bars.advance(2)
        bars.start("second")
        bars.advance(4)
    drawn = capfd.readouterr().err
    assert "first" in drawn
    assert "3/3" in drawn
    assert "second" in drawn
    assert "4/4" in drawn
