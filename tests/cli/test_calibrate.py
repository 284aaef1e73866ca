"""`edgefel calibrate`, end to end."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner
from exported import LABELS, save, tiny_model, write_faces
from tiny_bundle import PREPROCESSING, write_bundle

from edgefel.calib.calibration_set import read_calibration_set
from edgefel.cli.calibrate import command
from edgefel.cli.main import main
from edgefel.runtime.manifest import read_manifest


def calibrate(data, *arguments):
    return CliRunner().invoke(main, ["calibrate", "--data", *map(str, (data, *arguments))])


def test_it_writes_a_set_and_shows_the_classes(faces_folder, tmp_path):
    result = calibrate(faces_folder, "-o", tmp_path / "set.json", "--per-class", 2)
    assert result.exit_code == 0, result.output
    assert "14 images" in result.stdout
    assert set(read_calibration_set(tmp_path / "set.json").counts.values()) == {2}


def test_json_and_a_warning_for_small_classes(faces_folder, tmp_path):
    result = calibrate(
        faces_folder, "-o", tmp_path / "set.json", "--per-class", 400, "--group-cap", 400, "--json"
    )
    document = json.loads(result.stdout)
    assert len(document["short"]) == 7
    assert "warning: anger has" in result.stderr
    assert document["key"] == read_calibration_set(tmp_path / "set.json").key()


def test_a_file_that_exists_is_kept(faces_folder, tmp_path):
    (tmp_path / "set.json").write_text("mine")
    result = calibrate(faces_folder, "-o", tmp_path / "set.json")
    assert result.exit_code == 2
    assert "exists; choose another file" in result.stderr
    assert (tmp_path / "set.json").read_text() == "mine"


def test_missing_data_is_one_line_and_leaves_nothing(tmp_path):
    result = calibrate(tmp_path / "nowhere", "-o", tmp_path / "set.json")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "set.json").exists()


def test_a_set_without_int8_is_refused(nano_checkpoint, tmp_path):
    arguments = [
        nano_checkpoint,
        "-o",
        tmp_path / "bundle",
        "--fp32",
        "--calibration-set",
        tmp_path / "set.json",
    ]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 2
    assert "only INT8 and FP8 are calibrated; add --int8 or --fp8" in result.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def videos(tmp_path):
    """Images of two videos, which nobody labelled."""
    made = write_faces(tmp_path / "made", LABELS[:2], 12)
    (tmp_path / "videos").mkdir()
    for i, label in enumerate(LABELS[:2]):
        (made / label).rename(tmp_path / "videos" / f"clip{i}")
    return tmp_path / "videos"


def refused(result):
    """The one line that explains exit code 2."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_images_without_labels_are_balanced_on_a_bundles_predictions(videos, tmp_path):
    (videos / "clip0/0.png").write_bytes(b"no image")
    bundle = write_bundle(tmp_path / "bundle")
    result = calibrate(
        videos, "-o", tmp_path / "set.json", "--bundle", bundle, "--group-cap", 10, "--per-class", 9, "--json"
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["labelled_by"] == "predictions"
    assert [path.split("/")[-1] for path in document["skipped"]] == ["0.png"]
    chosen = read_calibration_set(tmp_path / "set.json")
    assert chosen.model.file == "model.fp32.onnx"
    assert chosen.preprocessing == PREPROCESSING.to_dict()
    assert set(chosen.groups) == {"clip0", "clip1"}
    assert max(chosen.groups.values()) <= 10
    assert "1 unreadable image skipped: 0.png" in result.stderr
    empty = [label for label, count in chosen.counts.items() if count == 0]
    assert empty
    for label in empty:
        assert f"warning: the model takes no image for {label}" in result.stderr
        assert f"{label} has 0" not in result.stderr


def test_with_a_bundle_neither_torch_nor_onnx_is_loaded(videos, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    arguments = [
        "calibrate",
        "--data",
        str(videos),
        "-o",
        str(tmp_path / "set.json"),
        "--bundle",
        str(bundle),
    ]
    code = (
        "import sys\nfrom edgefel.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print('heavy:', sorted({'torch', 'onnx', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "heavy: []"
    assert (tmp_path / "set.json").is_file()


def test_a_checkpoint_gives_its_preprocessing_and_on_request_its_predictions(tmp_path):
    faces = write_faces(tmp_path / "faces", LABELS, 3)
    checkpoint = save(tmp_path / "checkpoint", tiny_model())
    calibrate(faces, "-o", tmp_path / "a.json", "--checkpoint", checkpoint, "--per-class", 1)
    own = read_calibration_set(tmp_path / "a.json")
    assert (own.labelled_by, own.preprocessing["resize"]) == ("labels", 128)
    assert all(image.path.startswith(f"{image.label}/") for image in own.images)
    result = calibrate(
        faces, "-o", tmp_path / "b.json", "--checkpoint", checkpoint, "--per-class", 9, "--use-predictions"
    )
    assert "labelled by arbex-nano (model.safetensors)" in result.stdout
    predicted = read_calibration_set(tmp_path / "b.json")
    assert predicted.labelled_by == "predictions"
    assert not all(image.path.startswith(f"{image.label}/") for image in predicted.images)


def test_images_without_labels_need_a_model(videos, tmp_path):
    line = refused(calibrate(videos, "-o", tmp_path / "set.json"))
    assert "has neither labels.csv nor folders named after expressions" in line
    assert "--checkpoint or --bundle" in line
    assert not (tmp_path / "set.json").exists()


def test_what_does_not_go_together_is_refused_in_one_line(videos, faces_folder, tmp_path):
    eight = write_faces(tmp_path / "eight", LABELS, 1)
    bundle = write_bundle(tmp_path / "bundle")
    strange = write_bundle(tmp_path / "strange")
    manifest = json.loads((strange / "manifest.json").read_text())
    manifest["labels"] = [f"class {i}" for i in range(len(manifest["labels"]))]
    (strange / "manifest.json").write_text(json.dumps(manifest))
    cases = [
        ((eight, "--bundle", strange), "share fewer than two classes"),
        ((eight, "--use-predictions"), "give the model with --checkpoint or --bundle"),
        ((eight, "--bundle", bundle, "--checkpoint", bundle), "exclude each other"),
        ((eight, "--seeds", 3, "--method", "mse"), "--seeds, --method: only with --compare"),
        ((eight, "--per-class", 1, "--per-class", 2), "several --per-class: only with --compare"),
        ((eight, "--compare"), "--compare needs --checkpoint"),
        ((eight, "--compare", "--bundle", bundle), "--compare needs --checkpoint"),
        ((eight, "--bundle", tmp_path / "nowhere"), "nowhere"),
    ]
    for arguments, message in cases:
        assert re.search(message, refused(calibrate(*arguments, "-o", tmp_path / "out"))), arguments
        assert not (tmp_path / "out").exists()


def test_a_comparison_refuses_data_that_will_not_do_before_it_works(videos, tmp_path):
    checkpoint = save(tmp_path / "checkpoint", tiny_model())
    small = tmp_path / "small"
    for split in ("train", "test"):
        write_faces(small / split, LABELS, 3)
    cases = [
        ((videos,), "clip0: unknown label"),
        ((small,), "imbalance 50: needs 50 images of neutral and there are 3; .* smaller --imbalance"),
        ((small, "--imbalance", 1, "--images", 5), "held-out images of the split test show no"),
        ((small / "train",), "has no split test or val to judge on"),
        ((small, "--method", "magic"), "calibration method 'magic': choose one of"),
        ((tmp_path / "nowhere",), "no such folder"),
    ]
    for arguments, message in cases:
        result = calibrate(*arguments, "--compare", "--checkpoint", checkpoint, "-o", tmp_path / "out")
        assert re.search(message, refused(result)), (arguments, result.stderr)
        assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    result = calibrate(small, "--compare", "--checkpoint", checkpoint, "-o", tmp_path / "full")
    assert "not empty" in refused(result)


@pytest.mark.slow
def test_a_comparison_end_to_end(tmp_path):
    checkpoint = save(tmp_path / "checkpoint", tiny_model())
    for split, count in (("train", 8), ("val", 1), ("test", 2)):
        write_faces(tmp_path / "faces" / split, LABELS, count)
    arguments = ["--compare", "--checkpoint", checkpoint, "--imbalance", 2, "--seeds", 2, "--per-class", 1]
    result = calibrate(tmp_path / "faces", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [row["strategy"] for row in document["rows"]] == ["balanced", "random", "most-frequent"] * 2
    assert [pool["counts"][pool["order"][0]] for pool in document["pools"]] == [8, 8]
    assert [pool["counts"][pool["order"][-1]] for pool in document["pools"]] == [4, 4]
    assert (tmp_path / "out/comparison.png").is_file()
    for line in document["verdicts"]:
        assert line in result.stdout
    # the recorded command asks for the same again
    words = shlex.split(document["command"])
    assert words[:2] == ["edgefel", "calibrate"]
    asked = command.make_context("calibrate", words[2:]).params
    assert (asked["data"], asked["checkpoint"], asked["compare"]) == (tmp_path / "faces", checkpoint, True)
    in_force = {name: asked[name] for name in document["options"]}
    assert in_force | {"per_class": [*in_force["per_class"]]} == document["options"]


@pytest.mark.slow
def test_an_export_calibrates_on_the_set_and_its_manifest_says_so(nano_checkpoint, faces_folder, tmp_path):
    calibrate(faces_folder, "-o", tmp_path / "set.json", "--per-class", 2)
    arguments = [
        nano_checkpoint,
        "-o",
        tmp_path / "bundle",
        "--int8",
        "--calibration-set",
        tmp_path / "set.json",
    ]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    builder = read_manifest(tmp_path / "bundle").files[0].builder
    assert builder["calibration"]["key"] == read_calibration_set(tmp_path / "set.json").key()
    assert builder["calibration"]["used"] == 14
