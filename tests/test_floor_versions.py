"""The oldest versions that pyproject.toml allows, installed: labelling, streams, data sets, training and export work.

torch is the exception: of the versions that its floor allows, one has a CPU build here, and it is borrowed from the
environment of development instead of being installed again.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import shallow
import tomllib
import torch
from clean_installs import HERE, ROOT, check_lines, edgefel, find_python, new_environment, run, write_clip
from clean_installs import install as install_edgefel
from data.readers.trees_manifest import write_parquet_manifest

BUNDLE = ROOT / "tests" / "bundles" / "nano-synthetic"
# a floor of two numbers whose releases have four
EXACT = {"opencv-python-headless": "4.10.0.82"}
# NumPy's floor has wheels for Python 3.10; ONNX Runtime 1.17.0 asks for this one on 3.11
NUMPY = {"3.10": "1.23", "3.11": "1.24.2"}
# the version that is installed here, whatever the floor
BORROWED = "torch"
# a limit for a machine that is busy with other things: an installation takes about a minute by itself
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def floors(*extras: str) -> dict[str, str]:
    """Lower bounds of the base install and of these extras, by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found = {}
    for text in wanted:
        if (match := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([\d.]+)", text)) is not None:
            found[match[1]] = match[2]
        else:
            assert text.startswith("edgefel["), f"{text}: has no lower bound"
    for name, exact in EXACT.items():
        assert exact.startswith(f"{found[name]}.")
        found[name] = exact
    return found


def install(folder: Path, version: str, extras: tuple[str, ...], borrowed: tuple[str, ...] = ()) -> Path:
    """An environment of that Python with the floors; its interpreter. borrowed: folders that are seen in it too."""
    python = find_python(version)
    if python is None:
        pytest.skip(
            f"no Python {version} with venv and pip found here, for which the oldest versions have wheels"
        )
    clean = new_environment(python, folder / "venv")
    if borrowed:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(run(clean, "-c", code, cwd=folder).stdout.strip())
        (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    pins = floors(*extras) | {"numpy": NUMPY[version]}
    wanted = [f"{name}=={bound}" for name, bound in pins.items() if not (borrowed and name == BORROWED)]
    install_edgefel(clean, f"[{','.join(extras)}]", *wanted)
    return clean


def ok(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Path:
    """The runtime on the oldest Python that there is here."""
    version = next((name for name in NUMPY if find_python(name)), "3.10")
    return install(tmp_path_factory.mktemp("floor"), version, ("data", "openvino"))


def test_predict(runtime, tmp_path):
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((150, 120, 3), 128, np.uint8))
    found = []
    for backend in ("onnxruntime", "openvino"):
        arguments = ("predict", BUNDLE, tmp_path / "crop.png", "--no-detect", "--json", "--backend", backend)
        (face,) = json.loads(ok(edgefel(runtime, *arguments, cwd=tmp_path)))["faces"]
        found.append(list(face["probabilities"].values()))
    assert sum(found[0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(*found, atol=1e-4)


def test_run(runtime, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    arguments = ("run", BUNDLE, "--source", clip, "--json", "--save", tmp_path / "labelled.mkv")
    check_lines(ok(edgefel(runtime, *arguments, cwd=tmp_path)))
    assert (tmp_path / "labelled.mkv").stat().st_size > 0


def test_doctor_finds_nothing_too_old(runtime, tmp_path):
    checks = json.loads(ok(edgefel(runtime, "doctor", BUNDLE, "--json", cwd=tmp_path)))["checks"]
    assert [check for check in checks if check["status"] == "fail"] == []
    found = {check["name"]: check["found"] for check in checks}
    pins = floors("data", "openvino")
    assert found["ONNX Runtime"].startswith(pins["onnxruntime"])
    assert f"click {pins['click']}" in found["other packages"]
    assert found["backend"].startswith("model.fp32.onnx by ")


def test_data_inspect(runtime, tmp_path):
    made = write_parquet_manifest(tmp_path)
    ok(edgefel(runtime, "data", "inspect", made.path, cwd=tmp_path))
    ok(edgefel(runtime, "data", "synth", "-o", "drawn", "--count", "20", "--size", "64", cwd=tmp_path))
    report = json.loads(ok(edgefel(runtime, "data", "inspect", "drawn", "--json", cwd=tmp_path)))
    assert report["images"] == 20


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Path:
    """Training and export, with the torch of this environment."""
    if HERE not in NUMPY:
        pytest.skip(f"the oldest versions have no wheels for Python {HERE}, whose torch would be borrowed")
    folder = tmp_path_factory.mktemp("floor-training")
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for path in Path(torch.__file__).parents[1].iterdir():
        if re.fullmatch(r"(torch|torchgen|functorch|torch-.*\.dist-info)", path.name):
            (borrowed / path.name).symlink_to(path)
    return install(folder, HERE, ("report", "train", "export"), (str(borrowed),))


# one process runs them all, since importing torch takes longer than most of them; what each prints goes to a file
RUN = """
import contextlib, json, sys
from pathlib import Path
from edgefel.cli.main import main
for number, arguments in enumerate(json.loads(sys.argv[1])):
    with Path(f"{number}.txt").open("w") as file, contextlib.redirect_stdout(file):
        try:
            main(arguments)
        except SystemExit as end:
            if end.code not in (None, 0) and (arguments[0], end.code) != ("export", 3):
                sys.exit(f"{arguments}: exit code {end.code}")
"""


def test_train_and_export(training, faces_folder, tmp_path):
    """One step, every precision, and labels from each file."""
    image, data = next(faces_folder.rglob("*.png")), ("--data", faces_folder)
    steps = ("--max-steps", "1", "--batch-size", "8", "--per-class", "2", *shallow.PYRAMID)
    precisions = ("fp32", "fp16", "int8", "int8+fp16")
    images = ("--per-class", "2", "--parity-images", "8")
    forced = ("--no-detect", "--json", "--force", "--precision")
    commands = [
        ("train", "--model", "arbex-nano", *data, "-o", "run", *steps),
        ("evaluate", "run", *data, "--split", "test", "-o", "report"),
        # one step leaves weights that INT8 may not keep: exit code 3
        ("export", "run", "-o", "bundle", "--fp32", "--fp16", "--int8", *images, *data),
        *(("predict", "bundle", image, *forced, precision) for precision in precisions),
    ]
    ok(run(training, "-c", RUN, json.dumps(commands, default=str), cwd=tmp_path))
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert [file["requires"]["ir_version"] for file in manifest["files"]] == [9] * 4
    assert [file["precision"] for file in manifest["files"]] == list(precisions)
    for number in range(3, len(commands)):
        assert json.loads((tmp_path / f"{number}.txt").read_text())["faces"]
