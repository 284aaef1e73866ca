"""Runs a notebook from its first cell to its last and writes it back with its outputs.

\b
    python tools/run_notebook.py docs/first-look.ipynb

It runs in an empty folder, with the caches and settings of nobody. An error in a cell ends the run, and nothing is
written.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import click
import nbformat
from nbclient import NotebookClient

# seconds for a cell
_TIMEOUT = 550


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the outputs of a run now. Raises nbclient.exceptions.CellExecutionError for an error in a cell."""
    made = copy.deepcopy(notebook)
    with tempfile.TemporaryDirectory() as home:
        own = dict.fromkeys(("XDG_DATA_HOME", "EDGEFEL_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"), home)
        folder = Path(home, "empty")
        folder.mkdir()
        client = NotebookClient(
            made, timeout=_TIMEOUT, record_timing=False, resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=os.environ | own)
    made.metadata.pop("language_info", None)  # of the Python that ran it
    return made


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(path: Path) -> None:
    nbformat.write(executed(nbformat.read(path, as_version=4)), path)


if __name__ == "__main__":
    main()
