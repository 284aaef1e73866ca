"""`edgefel import` from the command line."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from published_weights import state_dict

from edgefel.cli.main import main
from edgefel.data.labels import PRESETS
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.models.checkpoint import load_checkpoint
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.shipped import FOLDER


@pytest.fixture(scope="module")
def poster_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("poster") / "poster.pth"
    torch.save({"state_dict": state_dict("poster_v2_7cls")[""]}, file)
    return file


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_import_writes_a_checkpoint_with_labels(poster_file, tmp_path):
    result = run(
        "import", poster_file, "--layout", "poster-v2", "--labels", "rafdb", "-o", tmp_path / "poster"
    )
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(tmp_path / "poster")
    assert checkpoint.config.name == "poster-v2"
    assert checkpoint.labels[0] == "surprise"
    assert checkpoint.extra["source"]["files"][0]["file"] == "poster.pth"


@pytest.fixture(scope="module")
def apvit_file(tmp_path_factory):
    names = ["Anger", "Disgust", "Fear", "Sadness", "Happiness", "Surprise", "Neutral"]
    file = tmp_path_factory.mktemp("apvit") / "apvit.pth"
    torch.save({"meta": {"CLASSES": names}, "state_dict": state_dict("apvit")[""]}, file)
    return file


@pytest.mark.parametrize("labels", [None, "apvit-rafdb"])
def test_labels_of_a_file_that_names_its_classes(apvit_file, labels, tmp_path):
    given = [] if labels is None else ["--labels", labels]
    result = run("import", apvit_file, "--layout", "apvit", *given, "-o", tmp_path / "apvit")
    assert result.exit_code == 0, result.output
    assert "labels: anger, disgust, fear, sadness, happiness, surprise, neutral\n" in result.stdout
    assert "images: resize to 112 (bilinear), no crop\n" in result.stdout
    assert load_checkpoint(tmp_path / "apvit").labels[0] == "anger"


def test_weights_that_were_trained_with_another_resize(apvit_file, tmp_path):
    result = run("import", apvit_file, "--layout", "apvit", "--resize", 128, "-o", tmp_path / "apvit")
    assert "images: resize to 128 (bilinear), crop 112 from the middle\n" in result.stdout
    assert load_checkpoint(tmp_path / "apvit").preprocessing["resize"] == 128


def test_labels_against_those_of_the_file_are_refused(apvit_file, tmp_path):
    result = run("import", apvit_file, "--layout", "apvit", "--labels", "rafdb", "-o", tmp_path / "apvit")
    assert result.exit_code == 2
    assert "names its classes anger, disgust, fear, " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_each_preset_is():
    text = run("import", "--help").output
    for name, (meaning, _) in PRESETS.items():
        assert f"  {name}: {meaning}" in text


def test_of_two_sets_of_weights_it_says_which_was_taken(apvit_file, tmp_path):
    content = torch.load(apvit_file)
    raw = {key: value + 1 for key, value in content["state_dict"].items()}
    torch.save({**content, "state_dict": raw, "state_dict_ema": content["state_dict"]}, tmp_path / "both.pth")
    arguments = ("import", tmp_path / "both.pth", "--layout", "apvit", "-o", tmp_path / "out", "--json")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    (note,) = json.loads(result.stdout)["notes"]
    assert note == "both.pth: took state_dict_ema (averaged weights); not taken: state_dict"
    assert load_checkpoint(tmp_path / "out").extra["source"]["notes"] == [note]


def test_a_backbone_becomes_a_starting_point(poster_file, tmp_path):
    tensors = {
        key.removeprefix("ir_back."): value
        for key, value in torch.load(poster_file)["state_dict"].items()
        if key.startswith("ir_back.")
    }
    torch.save(tensors, tmp_path / "ir50.pth")
    result = run("import", tmp_path / "ir50.pth", "--layout", "ir50", "-o", tmp_path / "ir50", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["labels"] == []
    assert (tmp_path / "ir50" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pth", "--layout", "poster-v2"], "no such file"),
        (
            ["{file}", "--layout", "poster-v2"],
            "does not name its classes; say which output is which with --labels: ",
        ),
        (
            ["{file}", "--layout", "poster-v2", "--labels", "alphabetic"],
            "1 names for 7 classes; give canonical, ",
        ),
        (
            ["{file}", "--layout", "ir50", "--labels", "rafdb"],
            "a backbone, which labels nothing; leave out --labels",
        ),
        (["{file}", "--layout", "poster-v2", "--resize", "200"], "crop 224 is larger than resize 200"),
        (["{file}", "--layout", "arbex"], "nothing in it has a name of the layout 'arbex'"),
        (["{file}", "--layout", "poster-v2", "--labels", "a,b"], "2 names for 7 classes"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(poster_file, tmp_path, arguments, message):
    filled = [argument.format(file=poster_file) for argument in arguments]
    result = run("import", *filled, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_framing_of_the_training_data_is_measured_on_request(apvit_file, tmp_path):
    write_faces(tmp_path / "faces", FaceOptions(count=42, size=96, subjects=14))
    arguments = ("import", apvit_file, "--layout", "apvit", "-o", tmp_path / "apvit")
    result = run(*arguments, "--data", tmp_path / "faces")
    assert result.exit_code == 0, result.output
    assert "framing: eyes at 0.3" in result.stdout
    assert load_checkpoint(tmp_path / "apvit").framing.eyes_down == pytest.approx(0.385, abs=0.02)
    assert load_checkpoint(tmp_path / "apvit").preprocessing["detail"] == 96
    alone = run(*arguments, "--detector-model", "yunet.onnx")
    assert alone.exit_code == 2
    assert "--detector-model belongs to --data" in alone.stderr


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_faces(folder, FaceOptions(count=128, size=96, classes=8, subjects=32))
    return folder


def test_the_shipped_network_becomes_a_checkpoint(faces, tmp_path):
    result = run("import", "--data", faces, "-o", tmp_path / "nano")
    assert result.exit_code == 0, result.output
    assert "entries of the bundle " in result.stdout
    assert "images: reduce to 48, resize to 128" in result.stdout
    assert "framing: eyes at 0.38" in result.stdout
    checkpoint = load_checkpoint(tmp_path / "nano")
    manifest = read_manifest(FOLDER)
    assert checkpoint.labels == manifest.labels
    assert checkpoint.preprocessing == manifest.preprocessing.to_dict()


def test_a_bundle_by_its_folder_as_json(faces, tmp_path):
    result = run("import", FOLDER, "--data", faces, "-o", tmp_path / "nano", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["layout"] == "bundle"
    assert 64 <= summary["images"] < 128  # of the split train
    assert summary["deviation"] < 1e-4
    assert summary["framing"]["framing"]["faces"] == read_manifest(FOLDER).framing.faces


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}"], "give images like those it was trained on"),
        (["{bundle}", "--layout", "apvit"], "is a bundle of edgefel; leave out --layout"),
        (["{bundle}", "--labels", "rafdb"], "leave out --labels"),
        (["{bundle}", "{bundle}"], "say which release the files come from with --layout"),
        (["nowhere.pth"], "nowhere.pth: no such file or folder"),
        (["{weights}"], "say which release the files come from with --layout"),
        (["--layout", "apvit"], "give the files of that release"),
        (["{empty}"], "no manifest.json here"),
    ],
)
def test_bundles_and_options_that_do_not_fit_are_refused(tmp_path, arguments, message):
    places = {"bundle": FOLDER, "empty": tmp_path / "empty", "weights": tmp_path / "weights.pth"}
    places["empty"].mkdir()
    places["weights"].touch()
    filled = [argument.format(**places) for argument in arguments]
    result = run("import", *filled, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
