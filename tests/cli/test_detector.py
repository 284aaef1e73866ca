"""`edgefel detector get`, and the commands that use the file then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib import cbook

from edgefel.cli.main import main
from edgefel.files.write import sha256
from edgefel.runtime import detector_download
from edgefel.runtime.detector_file import SHA256, detector_path
from edgefel.runtime.faces import choose_detector

YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
PORTRAIT = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def run(*arguments: object):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


@pytest.fixture
def real():
    if not YUNET.is_file():
        pytest.skip(f"no {YUNET.name} in ../shared/data")
    return YUNET


def detector_check():
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    return next(check for check in checks if check["name"] == "face detector")


def test_a_file_from_elsewhere_becomes_the_default(real, nano_bundle, tmp_path):
    before = run("predict", nano_bundle, PORTRAIT, "--json", "-v")
    assert "faces by OpenCV's Haar cascade" in before.stderr
    check = detector_check()
    assert (check["status"], check["fix"]) == ("note", "edgefel detector get")

    assert run("detector", "get", "--from", real).stdout == f"{detector_path()}\n"
    assert sha256(detector_path()) == SHA256
    assert run("detector", "get").stdout == f"{detector_path()} is there already\n"
    check = detector_check()
    assert (check["status"], check["found"]) == ("ok", f"YuNet, {detector_path()}")
    result = run("predict", nano_bundle, PORTRAIT, "--json", "-v")
    assert f"faces by {detector_path().name} in onnxruntime" in result.stderr
    ((face,), (known,)) = (json.loads(one.stdout)["faces"] for one in (result, before))
    assert face["box"] != known["box"]
    haar = run("predict", nano_bundle, PORTRAIT, "--json", "--detector", "haar")
    assert json.loads(haar.stdout)["faces"] == [known]


def test_prepared_data_say_which_detector_it_was(real, faces_folder, tmp_path):
    run("detector", "get", "--from", real)
    result = run("data", "prepare", faces_folder, "-o", tmp_path / "out", "--split", "val", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)["options"]
    assert (said["detector"], said["detector_model"]) == ("yunet", SHA256)


def test_a_file_in_fewer_bits_is_judged_and_never_chosen(real, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        shutil.copy(PORTRAIT, photos / f"{number}.jpg")
    run("detector", "get", "--from", real)
    written = detector_path().with_suffix(".fp16.onnx")
    quantize = "detector", "quantize", "--data", photos, "--precision", "fp16"
    result = run(*quantize)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {written.name}: 2 faces to compare is too few; give images with 20 or more; "
        "nothing is written without --force\n"
    )
    result = run(*quantize, "--force", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["file"], record["parity"]["found"], record["parity"]["faces"]) == (str(written), 2, 2)
    result = run(*quantize, "--force")
    assert result.stdout == f"{written}\n"
    assert "2 of the 2 faces that FP32 finds in 2 images, and 0 others; mean IoU 0.99" in result.stderr
    assert choose_detector()[1] == detector_path()


def test_a_damaged_file_is_an_error_everywhere(nano_bundle):
    detector_path().parent.mkdir(parents=True)
    detector_path().write_bytes(b"half")
    for arguments in (("predict", nano_bundle, PORTRAIT), ("run", nano_bundle, "--source", PORTRAIT)):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.endswith("run 'edgefel detector get', or remove it\n")
    assert detector_check()["status"] == "fail"
    assert run("predict", nano_bundle, PORTRAIT, "--detector", "haar").exit_code == 0


def test_errors_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(detector_download, "ADDRESSES", ("http://127.0.0.1:9/a",))
    (tmp_path / "other.onnx").write_bytes(b"x")
    for arguments, message in (
        ((), "127.0.0.1: Connection refused"),
        (("--from", tmp_path / "other.onnx"), "its SHA-256 differs"),
        (("--from", tmp_path / "absent.onnx"), "no such file"),
    ):
        result = run("detector", "get", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert not detector_path().exists()
