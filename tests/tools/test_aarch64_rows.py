"""Labels on aarch64 beside those of this machine: what is compared, what is refused, and the script around it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from aarch64_rows import compare, compare_found, main
from click.testing import CliRunner

from edgefel.errors import EdgefelError

SCRIPT = Path(__file__).parents[2] / "tools" / "aarch64_check.sh"
BUNDLE = SCRIPT.parents[1] / "tests" / "bundles" / "nano-synthetic"
MACHINE = {
    "cpu": "a processor",
    "architecture": "x86_64",
    "python": "3.11.2",
    "versions": dict.fromkeys(("edgefel", "numpy", "opencv-python-headless", "onnxruntime", "torch"), "1.0"),
}


def line(name: str, happiness: float, box: int = 0) -> dict:
    probabilities = {"happiness": happiness, "anger": 1 - happiness}
    label = max(probabilities, key=probabilities.__getitem__)
    return {"source": name, "faces": [{"box": box, "top_label": label, "probabilities": probabilities}]}


def test_the_largest_difference_and_equal_labels():
    here = [line("a", 0.75), line("b", 0.5625), line("c", 0.25)]
    there = [line("a", 0.875), line("b", 0.4375), line("c", 0.25)]
    assert compare(here, there, "int8") == {
        "precision": "int8",
        "images": 3,
        "largest_difference": 0.125,
        "same_labels": 2,
        "within": False,
    }
    assert compare(here, here, "int8")["within"]


@pytest.mark.parametrize(
    ("precision", "difference", "other_labels", "within"),
    [
        ("fp32", 0.9e-4, 0, True),
        ("fp32", 1.1e-4, 0, False),
        ("fp16", 0.01, 0, True),
        ("fp16", 0.01, 1, False),
        ("int8", 0.01, 1, True),
        ("int8", 0.01, 2, False),
    ],
)
def test_limits_are_those_of_the_parity_gate(precision, difference, other_labels, within):
    here = [line(str(n), 0.75) for n in range(50)]
    there = [line(str(n), 0.25 if n < other_labels else 0.75 + difference) for n in range(50)]
    assert compare(here, there, precision)["within"] is within


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "not the same images"),
        ([line("a", 0.5), line("x", 0.5)], "not the same images"),
        ([line("a", 0.5), {"source": "b", "faces": []}], "b does not have one face"),
        (
            [line("a", 0.5), {"source": "b", "faces": [{"probabilities": {"joy": 1.0}}]}],
            "b has other classes",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(there, said):
    with pytest.raises(EdgefelError, match=said):
        compare([line("a", 0.5), line("b", 0.5)], there, "fp32")


def test_nothing_is_not_equal():
    with pytest.raises(EdgefelError, match="not the same images"):
        compare([], [], "fp32")
    with pytest.raises(EdgefelError, match="not the same images"):
        compare_found([], [])


def test_found_faces_are_counted_and_their_boxes_and_labels_compared():
    here = [line("a", 0.75), line("b", 0.75), line("c", 0.75), line("d", 0.75)]
    there = [line("a", 0.74), line("b", 0.75, box=1), line("c", 0.25), {"source": "d", "faces": []}]
    assert compare_found(here, there) == {"images": 4, "faces_here": 4, "faces_there": 3, "same_images": 1}


@pytest.mark.parametrize(("there", "code"), [(0.75, 0), (0.7, 1)])
def test_the_document(tmp_path, there, code):
    packed = {"deploy": {"model": "tiny", "index_sha256": "0", "precisions": ["fp32"]}}
    (tmp_path / "packed.json").write_text(json.dumps(packed))
    for side, value in (("here", 0.75), ("there", there)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "machine.json").write_text(json.dumps(MACHINE))
        for name in ("fp32", "run"):
            (tmp_path / side / f"{name}.jsonl").write_text(json.dumps(line("a", value)) + "\n")
    (tmp_path / "there" / "doctor.json").write_text(json.dumps({"counts": {"ok": 17, "fail": 0}}))
    result = CliRunner().invoke(main, [str(tmp_path), "--command", "the command"])
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert found["command"] == "the command"
    assert found["rows"] == [
        {
            "precision": "fp32",
            "images": 1,
            "largest_difference": pytest.approx(0.75 - there),
            "same_labels": 1,
            "within": code == 0,
        }
    ]
    assert ("fp32: further apart" in result.stderr) == (code == 1)
    for bad in ("{", json.dumps(line("a", float("nan")))):
        (tmp_path / "there" / "fp32.jsonl").write_text(bad)
        result = CliRunner().invoke(main, [str(tmp_path), "--command", "the command"])
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "fp32.jsonl:1" in result.stderr


def check(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@needs_bash
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--werk", "x"], "unknown option --werk"),
        (["--work"], "--work needs a value"),
        (["/no/such/bundle"], "/no/such/bundle: is no bundle of edgefel export"),
        ([BUNDLE, BUNDLE], "one BUNDLE"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path, arguments, said):
    result = check(*arguments, XDG_CACHE_HOME=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@needs_bash
def test_a_missing_tool_is_named_with_its_package(tmp_path):
    places = tmp_path / "bin"
    places.mkdir()
    for name in ("bash", "dirname", "basename"):
        (places / name).symlink_to(shutil.which(name))
    result = check(BUNDLE, "--work", tmp_path / "work", PATH=str(places))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: no apt-get here; on Debian and Ubuntu: sudo apt install apt\n"
    assert not (tmp_path / "work").exists()
