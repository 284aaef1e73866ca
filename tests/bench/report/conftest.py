"""A report of two devices, with repetitions, remarks and a line that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_rows import ORIN, compared, example_rows, row, write_rows

from edgefel.bench.report.rows import Collection, collect

# what a name must not do: end its element, its attribute or the embedded data, and run
HOSTILE = (
    "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">'\"&"
)


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("rows")
    path = write_rows(folder / "results.jsonl", [*example_rows(), *example_rows(ORIN, speed=3.0)])
    hostile = row(
        subject={"model": HOSTILE, "batch": 8}, metrics=compared(50.0, macro_f1=0.9), notes=(HOSTILE,)
    )
    write_rows(folder / "others.jsonl", [row(time="2026-11-01T00:00:00+00:00"), hostile])
    with path.open("a") as stream:
        stream.write('{"schema": 1, "kind": "comp')
    return collect([folder])


@pytest.fixture(scope="session")
def report(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    from edgefel.bench.report.page import render

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(collection), encoding="utf-8")
    return path
