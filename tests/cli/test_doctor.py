"""`edgefel doctor` as users run it: on this machine, and with packages taken away."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import tiny_bundle
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.runtime.doctor import examine as examination
from edgefel.runtime.doctor.check import Check
from edgefel.runtime.session import Session


def run(*arguments: object):
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


@pytest.fixture
def found(monkeypatch):
    """Sets what the examination finds."""

    def put(*checks: Check) -> None:
        monkeypatch.setattr(examination, "examine", lambda folder, measure: checks)

    return put


OK, NOTE = Check("Python", "ok", "3.12.3"), Check("window", "note", "headless [GUI]", "pip install 'a[b]'")
WARN, FAIL = (
    Check("memory", "warn", "0.3 GB", "close programs"),
    Check("NumPy", "fail", "none", "pip install numpy"),
)


def test_this_machine_and_a_bundle(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "bundle")
    result = run(bundle, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else 1)
    named = {check["name"]: check for check in document["checks"]}
    assert named["NumPy"]["status"] == "ok"
    assert named["model.fp32.onnx"]["found"].startswith("fp32, ")
    with Session.open(bundle) as session:
        assert named["backend"]["found"] == f"model.fp32.onnx by {session.choice.why}: {session.choice.basis}"
        assert "measured on this machine" in session.choice.basis
    assert sum(document["counts"].values()) == len(document["checks"])
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("checks", "options", "code"),
    [
        ((OK, NOTE), (), 0),
        ((OK, NOTE), ("--strict",), 0),
        ((OK, WARN), (), 0),
        ((OK, WARN), ("--strict",), 1),
        ((OK, FAIL), (), 1),
        ((OK, WARN, FAIL), ("--strict", "--json"), 1),
    ],
)
def test_the_exit_code(found, checks, options, code):
    found(*checks)
    assert run(*options).exit_code == code


def test_the_table_says_each_thing_once(found):
    found(OK, NOTE, WARN, FAIL)
    lines = run().stdout.splitlines()
    for check in (OK, NOTE, WARN, FAIL):
        (line,) = [line for line in lines if check.found in line]
        assert check.name in line
        assert check.status in line
        assert (check.fix or "") in line
    assert lines[-1] == "1 ok, 1 note, 1 warn, 1 fail"


def test_a_folder_that_is_no_bundle_is_bad_input(tmp_path):
    result = run(tmp_path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {tmp_path}: no manifest.json here; give the folder that 'edgefel export' wrote\n"
    )


def without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
        "from edgefel.cli.main import main\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_opencv_it_says_so_instead_of_breaking(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "bundle")
    result = without(("cv2",), "doctor", str(bundle), "--json")
    assert result.returncode == 1, result.stderr
    named = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert named["OpenCV"]["status"] == "fail"
    assert "pip install" in named["OpenCV"]["fix"]
    assert named["bundle"]["found"].startswith("not examined further: ModuleNotFoundError")


def test_it_needs_neither_torch_nor_onnx(tmp_path):
    result = without(("torch", "onnx", "triton", "sklearn", "openvino", "tensorrt_rtx"), "doctor", "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout)["ok"] == (result.returncode == 0)


def test_the_help_of_edgefel_imports_nothing_for_it():
    code = (
        "import sys\nfrom edgefel.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(name for name in sys.modules if 'doctor' in name or name in ('numpy', 'cv2', 'rich')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "doctor" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_without_a_bundle_it_examines_the_network_that_comes_with_edgefel(shipped):
    named = {check["name"]: check for check in json.loads(run("--json").stdout)["checks"]}
    assert named["bundle"]["found"] == f"{shipped.name} comes with edgefel: tiny, 7 classes, 1 file"
    assert named["backend"]["status"] == named["model.fp32.onnx"]["status"] == "ok"


def test_an_installation_without_that_network_is_no_problem(none_shipped):
    named = {check["name"]: check for check in json.loads(run("--json").stdout)["checks"]}
    assert (named["bundle"]["status"], named["bundle"]["found"]) == (
        "note",
        "this installation holds no network",
    )
    assert "backend" not in named
