"""`edgefel bench report` and `edgefel bench diff` as users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_rows import ORIN, example_rows, row, timing, write_rows
from click.testing import CliRunner, Result

from edgefel.cli.main import main


def bench(*arguments: object) -> Result:
    """`edgefel bench ARGUMENTS`."""
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "results.jsonl", example_rows())


def test_a_page_and_markdown_beside_it(results, tmp_path):
    page, text = tmp_path / "new" / "report.html", tmp_path / "report.md"
    found = bench("report", results, "-o", page, "--markdown", text)
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [f"{page}: 37 rows of 1 device", f"{text}: 37 rows of 1 device"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert text.read_text(encoding="utf-8").startswith("### Intel")
    assert bench("report", results, "-o", tmp_path / "alone.md").exit_code == 0
    assert (tmp_path / "alone.md").read_text() == text.read_text()


def test_how_much_accuracy_may_be_given_up_decides(results, tmp_path):
    bench("report", results, "-o", tmp_path / "report.md", "--max-drop", "10")
    assert "Run arbex-nano int8 in openvino" in (tmp_path / "report.md").read_text()
    assert bench("report", results, "-o", tmp_path / "report.md", "--max-drop", "nan").exit_code == 2


def test_good_rows_are_shown_and_the_others_named(results, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text('{"schema": 7}\n' + results.read_text())
    found = bench("report", path, "-o", tmp_path / "report.html")
    assert found.exit_code == 0
    assert (
        found.stderr
        == f"warning: {path}, line 1: of schema 7, this edgefel reads 1; update edgefel to read it\n"
    )
    assert "line 1: of schema 7" in (tmp_path / "report.html").read_text()


def test_bad_input_is_one_line_and_leaves_what_is_there(results, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine")
    (tmp_path / "broken.jsonl").write_text("{\n")
    for arguments, message in (
        ((tmp_path / "no.jsonl", "-o", page), "no.jsonl: no such file or folder"),
        ((tmp_path / "broken.jsonl", "-o", page), "no result rows; "),
        ((results, "-o", tmp_path / "report.pdf"), "neither a page nor Markdown"),
        ((results, "-o", page, "--markdown", tmp_path / "report.txt"), "--markdown writes Markdown"),
        ((results, "-o", page / "in" / "report.html"), "cannot be written: "),
    ):
        found = bench("report", *arguments)
        assert found.exit_code == 2, arguments
        assert found.stderr.startswith("error: ")
        assert found.stderr.count("\n") == 1
        assert message in found.stderr
    assert page.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jsonl", "report.html"]


def without(absent: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    """`edgefel bench ARGUMENTS` where these modules are not installed."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {absent!r} else find(name, *rest)
from edgefel.cli.main import main
main()
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    command = [sys.executable, "-c", code, "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_reading_results_needs_at_most_what_draws(results, tmp_path):
    """A report is made where the rows are looked at, not where they were measured."""
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "scipy", "sklearn", "yaml", "playwright")
    for absent, *arguments in (
        (heavy, "report", results, "-o", tmp_path / "a.html"),
        ((*heavy, "matplotlib", "jinja2"), "report", results, "-o", tmp_path / "a.md"),
        ((*heavy, "matplotlib", "jinja2"), "diff", results, results),
    ):
        found = without(absent, *arguments)
        assert found.returncode == 0, found.stderr
    assert (tmp_path / "a.html").stat().st_size > 100_000


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_page_without_what_draws_it_is_one_line(module, results, tmp_path):
    found = without((module,), "report", results, "-o", tmp_path / "a.html")
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
    assert "edgefel[report]" in found.stderr
    assert not (tmp_path / "a.html").exists()


def latency(folder: Path, name: str, ms: float, **how) -> Path:
    device = how.pop("device", None)
    where = {} if device is None else {"device": device}
    metrics = {"latency_ms": timing(ms), "file_bytes": 45_800_000, **how}
    return write_rows(folder / name, [row("latency", metrics=metrics, **where)])


def test_the_exit_code_says_whether_something_got_slower(tmp_path):
    before, after = latency(tmp_path, "a.jsonl", 30.0), latency(tmp_path, "b.jsonl", 33.0)
    found = bench("diff", before, after)
    assert found.exit_code == 3
    assert (
        "FAIL arbex int8 openvino, batch 1, threads 2: 10.0% slower, at most 5.0% is allowed" in found.stdout
    )
    for limit in ("12%", "0.12", " 12 %"):
        within = bench("diff", before, after, "--fail-over", limit)
        assert within.exit_code == 0, within.output
        assert "nothing is over a limit" in within.stdout
    faster = bench("diff", after, before)
    assert faster.exit_code == 0
    assert "faster" in faster.stdout


def test_json_is_all_there_is_on_stdout(tmp_path):
    before, after = (
        latency(tmp_path, "a.jsonl", 30.0, accuracy=0.93),
        latency(tmp_path, "b.jsonl", 30.0, accuracy=0.90),
    )
    after.write_text("{\n" + after.read_text())
    found = bench("diff", before, after, "--json")
    assert found.exit_code == 3
    values = json.loads(found.stdout)
    assert values["failures"] == [
        "arbex int8 openvino, batch 1, threads 2: accuracy fell by 3.00 points, at most 1 are allowed"
    ]
    assert values["limits"] == {"slower": 0.05, "drop": 1.0, "strict": False}
    assert values["problems"] == [f"{after}, line 1: not a line of JSON; was the file cut short?"]
    assert found.stderr == f"warning: {values['problems'][0]}\n"
    assert bench("diff", before, after, "--max-drop", 3.5).exit_code == 0


def test_unstable_rows_are_listed(tmp_path):
    before = latency(tmp_path, "a.jsonl", 30.0)
    shaky = {**timing(40.0), "stable": False, "reason": "it drifts"}
    after = write_rows(tmp_path / "b.jsonl", [row("latency", metrics={"latency_ms": shaky})])
    found = bench("diff", before, after)
    assert found.exit_code == 0
    assert "unstable: B: it drifts" in found.stdout
    assert bench("diff", before, after, "--strict").exit_code == 3


def test_another_device_is_refused_by_name(tmp_path):
    found = bench("diff", latency(tmp_path, "a.jsonl", 30.0), latency(tmp_path, "b.jsonl", 30.0, device=ORIN))
    assert found.exit_code == 2
    assert found.stdout == ""
    assert "Intel(R) Xeon" in found.stderr
    assert ORIN in found.stderr


@pytest.mark.parametrize("limit", ["five", "-1%", "nan", "5", "", "%"])
def test_a_limit_that_is_no_share_is_a_usage_error(limit, tmp_path):
    path = latency(tmp_path, "a.jsonl", 30.0)
    found = bench("diff", path, path, "--fail-over", limit)
    assert found.exit_code == 2
    assert "5%" in found.stderr


@pytest.mark.parametrize("name", ["report", "diff"])
def test_help_has_examples(name):
    found = bench(name, "--help")
    assert found.exit_code == 0
    assert f"edgefel bench {name} " in found.stdout
    assert "Examples:" in found.stdout
