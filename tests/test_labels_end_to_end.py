"""One network under several orders of its classes: every command says the same of the same images."""

from __future__ import annotations

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exported import LABELS, colour_images, run_torch, varied_model, write_colours

from edgefel.bench.bundle import compare_bundle
from edgefel.bench.compare.accuracy import choose
from edgefel.bench.experiments.ablation.judge import judge
from edgefel.cli.main import main
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.deploy.deepstream import write_deepstream
from edgefel.deploy.triton_server import write_triton_repository
from edgefel.evaluation.evaluate import evaluate
from edgefel.evaluation.report import render
from edgefel.files.documents import read_json
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.models.network import FacialExpressionModel
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session
from edgefel.training.config import load_config
from edgefel.training.model import SupervisedModel

IMAGES = 70
SHUFFLED = tuple(LABELS[i] for i in (5, 2, 7, 0, 6, 3, 1, 4))
SEVEN = tuple(name for name in SHUFFLED if name != "contempt")


def of_classes(labels: tuple[str, ...]) -> FacialExpressionModel:
    """`varied_model`, whose outputs are in the order of LABELS, with these outputs in this order."""
    model = varied_model()
    rows = torch.tensor([LABELS.index(name) for name in labels])
    axes = model.class_axes()
    state = {
        key: value.index_select(axes[key], rows) if key in axes else value
        for key, value in model.state_dict().items()
    }
    made = FacialExpressionModel(replace(model.config, num_classes=len(labels)))
    made.load_state_dict(copy.deepcopy(state))
    return made.eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two checkpoints with their bundles, and images of eight classes, nine of ten of which they label rightly."""
    root = tmp_path_factory.mktemp("labels")
    write_colours(root / "faces", IMAGES)
    for name, labels in (("shuffled", SHUFFLED), ("seven", SEVEN)):
        save_checkpoint(root / name, of_classes(labels), labels, default_preprocessing(112).to_dict())
        done = command(
            "export", root / name, "-o", root / f"{name}-bundle", "--fp32", "--data", root / "faces"
        )
        assert done.exit_code in (0, 3), done.output
    return root


@pytest.fixture(scope="module")
def seven_classes(root) -> Path:
    """The same images as a set without contempt: two of that class are called fear, and the others are not there."""
    folder = root / "without"
    folder.mkdir()
    text = (root / "faces" / "labels.csv").read_text().replace(",contempt,", ",fear,", 2)
    kept = [line for line in text.splitlines() if ",contempt," not in line]
    (folder / "labels.csv").write_text("\n".join(kept).replace("\n", "\n../faces/") + "\n")
    return folder


def command(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def truth(data: Path) -> dict[str, str]:
    """The label of each image that is in the data, by the image's name."""
    with (data / "labels.csv").open(newline="") as stream:
        return {Path(row["path"]).name: row["label"] for row in csv.DictReader(stream)}


def named(model: FacialExpressionModel, labels: tuple[str, ...], among: tuple[str, ...]) -> dict[str, str]:
    """What a network says of each image, of these classes: computed without anything that is tested."""
    said = run_torch(model, default_preprocessing(112).batch(colour_images(IMAGES)))["probabilities"]
    allowed = [labels.index(name) for name in among]
    return {f"{row:03}.png": among[i] for row, i in enumerate(said[:, allowed].argmax(axis=1))}


def accuracy(
    data: Path, model: FacialExpressionModel, labels: tuple[str, ...], among: tuple[str, ...]
) -> float:
    said = named(model, labels, among)
    return float(np.mean([said[name] == true for name, true in truth(data).items() if true in among]))


def evaluated(root: Path, name: str, data: Path) -> dict[str, Any]:
    done = command("evaluate", root / name, "--data", data, "--json", "--workers", 0)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) | {"stderr": done.stderr}


def compared(root: Path, name: str, data: Path) -> dict[str, Any]:
    done = command("parity", root / f"{name}-bundle", "--data", data, "--threads", 1, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) | {"stderr": done.stderr}


def benched(root: Path, name: str, data: Path) -> Any:
    dataset = open_dataset(data)
    return compare_bundle(
        root / name, root / f"{name}-bundle", dataset, threads=1, min_runs=1, max_seconds=0.0
    )


def recalls(check: dict[str, Any]) -> dict[str, float | None]:
    return {row["label"]: row["recall"] for row in check["files"]["model.fp32.onnx"]["labels"]["classes"]}


def check_everywhere(
    root: Path, name: str, data: Path, expected: float, judged: tuple[str, ...]
) -> dict[str, Any]:
    """Evaluate, parity and bench agree on accuracy and on the recall of every class; returns the evaluation."""
    evaluation, check, table = (work(root, name, data) for work in (evaluated, compared, benched))
    assert evaluation["with_head"]["accuracy"] == pytest.approx(expected)
    assert check["files"]["model.fp32.onnx"]["labels"]["accuracy"] == pytest.approx(expected)
    assert [row["accuracy"] for row in table["files"]] == pytest.approx([expected] * 2)
    own = dict(zip(evaluation["labels"], evaluation["with_head"]["recall"], strict=True))
    assert set(own) == set(judged)
    assert recalls(check) == pytest.approx(own)
    for classes in (evaluation["classes"], check["classes"], table["classes"]):
        assert set(classes["judged"]) == set(judged)
    return evaluation


def test_another_order_is_judged_alike_everywhere(root):
    expected = accuracy(root / "faces", varied_model(), LABELS, LABELS)
    assert 0.85 < expected < 0.95  # each of the other orders would be near chance
    assert accuracy(root / "faces", of_classes(SHUFFLED), SHUFFLED, SHUFFLED) == expected
    evaluation = check_everywhere(root, "shuffled", root / "faces", expected, LABELS)
    assert evaluation["class_notes"] == []
    assert "warning" not in evaluation["stderr"]
    assert choose(root / "faces", SHUFFLED, 5)[0].match.same_classes


def test_a_bundle_names_its_outputs(root):
    with Session.open(root / "shuffled-bundle", "fp32", "onnxruntime", 1) as session:
        said = session(colour_images(IMAGES)).probabilities.argmax(axis=1)
        assert session.labels == SHUFFLED
    assert [SHUFFLED[i] for i in said] == list(named(varied_model(), LABELS, LABELS).values())
    judged = read_manifest(root / "shuffled-bundle").find("fp32").parity["labels"]["accuracy_reference"]
    assert judged == pytest.approx(accuracy(root / "faces", varied_model(), LABELS, LABELS))


def test_what_goes_to_servers_names_the_outputs_in_their_order(root, tmp_path):
    bundle = root / "shuffled-bundle"
    write_triton_repository(bundle, tmp_path / "triton")
    files = list((tmp_path / "triton").rglob("labels.txt"))
    assert files
    assert all(tuple(file.read_text().split()) == SHUFFLED for file in files)
    write_deepstream(bundle, tmp_path / "deepstream")
    assert (tmp_path / "deepstream" / "labels.txt").read_text() == ";".join(SHUFFLED) + "\n"


def test_seven_of_the_eight_classes_of_the_data(root):
    expected = accuracy(root / "faces", of_classes(SEVEN), SEVEN, SEVEN)
    assert expected > 0.8
    evaluation = check_everywhere(root, "seven", root / "faces", expected, SEVEN)
    left = list(truth(root / "faces").values()).count("contempt")
    assert evaluation["images"] == IMAGES - left > 0
    assert evaluation["classes"]["images_left_out"] == {"contempt": left}
    said = f"images of classes that the model lacks are left out: {left} of contempt"
    assert said in evaluation["stderr"]
    assert said in compared(root, "seven", root / "faces")["stderr"]
    assert said in render(evaluate(root / "seven", root / "faces"), ())
    entry = read_manifest(root / "seven-bundle").find("fp32").parity
    assert entry["classes"]["images_left_out"] == {"contempt": left}
    assert entry["labels"]["accuracy_reference"] == pytest.approx(expected)


def test_data_without_one_of_the_eight_classes_of_the_model(root, seven_classes):
    among = tuple(name for name in LABELS if name != "contempt")
    expected = accuracy(seven_classes, of_classes(SHUFFLED), SHUFFLED, among)
    evaluation = check_everywhere(root, "shuffled", seven_classes, expected, among)
    assert evaluation["classes"]["outputs_ignored"] == ["contempt"]
    said = named(varied_model(), LABELS, LABELS)
    ignored = sum(said[name] == "contempt" for name in truth(seven_classes))
    assert evaluation["classes"]["predictions_ignored"] == ignored > 0
    assert "judged by its probabilities of the other 7 classes alone" in evaluation["stderr"]
    assert f"{ignored} of {evaluation['images']} predictions were of contempt" in evaluation["stderr"]


@pytest.fixture(scope="module")
def split(root) -> Path:
    """The images with splits: eight to train on, and the others in turn to validate and to test on."""
    folder = root / "split"
    folder.mkdir()
    header, *lines = (root / "faces" / "labels.csv").read_text().splitlines()
    train = {next(line for line in lines if f",{label}," in line) for label in LABELS}
    splits = ["train" if line in train else ("val", "test")[i % 2] for i, line in enumerate(lines)]
    marked = [
        f"../faces/{line.replace(',test,', f',{split},')}" for line, split in zip(lines, splits, strict=True)
    ]
    (folder / "labels.csv").write_text("\n".join([header, *marked]) + "\n")
    return folder


@pytest.fixture
def nothing_learned(monkeypatch) -> list[object]:
    """Settings that leave every weight and statistic as it was."""
    monkeypatch.setattr(
        SupervisedModel, "train", lambda model, mode=True: torch.nn.Module.train(model, False)
    )
    return ["--lr", "1e-12", "--batch-size", 8, "--per-class", 1, "--lambda-auxiliary", 0, "--max-steps", 1]


def settings(model: FacialExpressionModel) -> list[object]:
    encoder = model.config.encoder
    names = ("image_units", "landmark_units", "depth")
    return [
        word
        for name in names
        for value in [getattr(encoder, name)]
        for word in ("--model-set", f"encoder.{name}={list(value) if isinstance(value, tuple) else value}")
    ]


def first_validation(run: Path) -> float:
    with (run / "metrics.csv").open(newline="") as stream:
        return float(next(csv.DictReader(stream))["val_accuracy"])


def test_training_starts_as_accurate_as_what_it_starts_from(root, split, nothing_learned, tmp_path):
    options = ["--model", "arbex-nano", *settings(varied_model()), "--data", split, *nothing_learned]
    done = command("train", *options, "--init-from", root / "shuffled", "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    source = command(
        "evaluate", root / "shuffled", "--data", split, "--split", "val", "--json", "--workers", 0
    )
    expected = json.loads(source.stdout)["with_head"]["accuracy"]
    assert expected > 0.8
    assert first_validation(tmp_path / "run") == pytest.approx(expected, abs=1e-6)
    assert f"init-from {root / 'shuffled'}: classes taken by name: {', '.join(SHUFFLED)}\n" in done.stderr
    assert load_checkpoint(tmp_path / "run").labels == LABELS


def test_training_takes_the_seven_classes_that_there_are(root, split, nothing_learned, tmp_path):
    options = ["--model", "arbex-nano", *settings(varied_model()), "--data", split, *nothing_learned, "-q"]
    done = command("train", *options, "--init-from", root / "seven", "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "classes that start anew: contempt" in done.stderr
    taken, whole = load_checkpoint(tmp_path / "run").model.state_dict(), varied_model().state_dict()
    for key in varied_model().class_axes():
        torch.testing.assert_close(taken[key][:7], whole[key][:7])


def shuffle_run(run: Path) -> None:
    """Permutes the classes of a run's last checkpoint, with what its optimizer knows of them."""
    from safetensors.torch import load_file, save_file

    folder = run / read_json(run / "last.json")["checkpoint"]
    axes = {f"model.{key}": axis for key, axis in varied_model().class_axes().items()}
    rows = torch.tensor([LABELS.index(name) for name in SHUFFLED])
    for name, prefix in (("model.safetensors", "model."), ("training.safetensors", "")):
        state = load_file(folder / name)
        for key, value in state.items():
            axis = axes.get(prefix + key if prefix else key.rpartition("/")[0])
            if axis is not None and value.ndim > axis:
                state[key] = value.index_select(axis, rows)
        save_file(state, folder / name)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"labels": list(SHUFFLED)}))


def test_a_run_goes_on_with_the_same_classes_in_another_order(root, split, nothing_learned, tmp_path):
    options = ["--model", "arbex-nano", *settings(varied_model()), "--data", split, *nothing_learned, "-q"]
    run = tmp_path / "run"
    assert command("train", *options, "--init-from", root / "shuffled", "-o", run).exit_code == 0
    expected, before = first_validation(run), judge(run, load_config(run / "config.yaml"))
    shuffle_run(run)
    after = judge(run, load_config(run / "config.yaml"))
    assert (before["labels"], after["labels"]) == (list(LABELS), list(SHUFFLED))
    assert before["corrected"]["accuracy"] == after["corrected"]["accuracy"] > 0.8
    assert before["diagnosis"]["accuracy"] == after["diagnosis"]["accuracy"]
    done = command("train", "--resume", run, "--max-steps", 2, "-q")
    assert done.exit_code == 0, done.output
    with (run / "metrics.csv").open(newline="") as stream:
        assert [float(row["val_accuracy"]) for row in csv.DictReader(stream)] == [expected] * 2
    assert load_checkpoint(run).labels == SHUFFLED
    other = command("train", "--resume", run, "--max-steps", 3, "--data", root / "without", "-q")
    assert other.exit_code == 2
