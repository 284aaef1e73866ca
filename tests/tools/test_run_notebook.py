"""Notebooks run in a kernel of their own, and that of the docs says what it says when it is run now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="notebooks need edgefel[docs]")
pytest.importorskip("ipykernel", reason="notebooks need edgefel[docs]")

import nbformat
from click.testing import CliRunner
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from run_notebook import executed, main

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
pytestmark = pytest.mark.slow


def text(notebook: nbformat.NotebookNode) -> str:
    """What the cells print, but for warnings."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    outputs = [output for output in outputs if output.get("name") != "stderr"]
    return "".join(output.get("text", "") or output.data.get("text/plain", "") for output in outputs)


def test_cells_run_in_order_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [
        "import os, pathlib; pathlib.Path('made').touch()",
        "os.listdir(), os.path.dirname(os.getcwd()) == os.environ['XDG_DATA_HOME']",
    ]
    path = tmp_path / "x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    result = CliRunner().invoke(main, [str(path)])
    assert result.exit_code == 0, result.output
    assert text(nbformat.read(path, as_version=4)) == "(['made'], True)"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ipynb"]


def test_an_error_ends_it(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("1 / 0"), new_code_cell("print('later')")])
    path = tmp_path / "x.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert isinstance(CliRunner().invoke(main, [str(path)]).exception, CellExecutionError)
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_of_the_docs_gives_what_it_was_committed_with(path):
    committed = nbformat.read(path, as_version=4)
    then, now = text(committed), text(executed(committed))
    assert NUMBER.sub("#", now) == NUMBER.sub("#", then)
    # backends and processors round differently
    assert [float(one) for one in NUMBER.findall(now)] == pytest.approx(
        [float(one) for one in NUMBER.findall(then)], rel=0.03, abs=0.1
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_was_committed_whole_and_small(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 300_000
