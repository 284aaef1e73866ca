"""A teacher's probabilities: what they are, that they are computed once, and what training makes of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from training.runs import FLAGS, assert_same_run, cli, config, rows, tensors, write_faces

from edgefel.data.labels import EXPRESSIONS_8
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.models import build_model
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.training.data import open_data
from edgefel.training.distillation import TEACHER_NAME, Teacher, agreement, find_teacher, tempered
from edgefel.training.loop import resume, train
from edgefel.training.losses import ReliabilityLoss
from edgefel.training.model import run_preprocessing

pytestmark = pytest.mark.usefixtures("one_thread")


def write_teacher(folder: Path, labels: tuple[str, ...], seed: int = 0, **preprocessing) -> Path:
    torch.manual_seed(seed)
    model = build_model("poster-v2-nano", num_classes=len(labels)).eval()
    with torch.no_grad():
        model.head.linear.weight *= 40  # an opinion
    own = Preprocessing(**{"resize": 120, "crop": 112, "resample": "antialias"} | preprocessing)
    save_checkpoint(folder, model, labels, own.to_dict())
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Of eight classes in another order than the data's seven, with preprocessing of its own."""
    return write_teacher(tmp_path_factory.mktemp("teacher") / "eight", EXPRESSIONS_8[::-1])


def opened(faces: Path, teacher: Path | None, **changes):
    given = config(faces, teacher=teacher and str(teacher), **changes)
    return given, open_data(given, run_preprocessing(given))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_a_temperature_is_that_of_the_logits(temperature):
    logits = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    probabilities = logits.softmax(1).float()
    probabilities[2] = 0.0
    expected = (logits / temperature).softmax(1)
    expected[2] = 0.0
    found = tempered(probabilities, temperature)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_impossible_and_certain_classes_have_a_temperature_too():
    torch.testing.assert_close(
        tempered(torch.tensor([[1.0, 0.0, 0.0]]), 2.0), torch.tensor([[1.0, 0.0, 0.0]])
    )


def test_labels_are_the_mean_over_an_image_and_its_mirror_image(tmp_path, teacher):
    faces = write_faces(tmp_path / "faces", broken=(3, 10))
    given, data = opened(faces, teacher)
    found = find_teacher(given, tmp_path, data)
    assert isinstance(found, Teacher)
    told = found.label(data, Fabric(accelerator="cpu", devices=1), 0, shown=False)
    loaded, own = load_checkpoint(teacher), Preprocessing(120, 112, resample="antialias")
    columns = [loaded.labels.index(name) for name in data.labels]
    for index, sample in enumerate(data.train.dataset.samples):
        if index in (3, 10):
            assert told[index].tolist() == [0.0] * 7
            continue
        image = own.resize_image(sample.load())
        expected = torch.zeros(7, dtype=torch.float64)
        for view in (image, np.ascontiguousarray(image[:, ::-1])):
            with torch.no_grad():
                rows = loaded.model(torch.from_numpy(own.batch([view]))).probabilities.double()[0]
            expected += rows[columns] / rows[columns].sum() / 2
        torch.testing.assert_close(told[index].double(), expected, rtol=1e-4, atol=1e-6)
    assert len(told) == 28
    assert told.std(0).max() > 0.1, "the same for all images"


def test_agreement_is_of_the_images_that_the_teacher_has_seen():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 0.0], [0.3, 0.6, 0.1], [0.1, 0.2, 0.7]])
    targets = torch.tensor([0, 0, 2, 2])
    assert agreement(probabilities, targets) == pytest.approx(2 / 3)
    assert agreement(probabilities, torch.eye(3)[targets]) == pytest.approx(2 / 3)


def test_without_a_teacher_there_is_none(faces, tmp_path):
    given, data = opened(faces, None)
    assert find_teacher(given, tmp_path, data) is None


def test_a_run_with_a_teacher_goes_on_without_it(tmp_path, teacher):
    data, own = write_faces(tmp_path / "faces"), tmp_path / "teacher"
    shutil.copytree(teacher, own)
    flags = ["--data", data, *FLAGS, "--teacher", own, "--checkpoint-every", 1, "--keep", 9, "--soft-labels"]
    flags += ["--teacher-weight", 0.7, "--teacher-temperature", 2, "--mixup", 0.3, "--without-copies"]
    done = cli(*flags, "-o", tmp_path / "whole")
    assert done.exit_code == 0, done.output
    assert re.search(r"teacher: gives \d+\.\d% of the training images the class of their label", done.stderr)
    probabilities = load_file(tmp_path / "whole" / TEACHER_NAME)["probabilities"]
    assert probabilities.shape == (28, 7)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(28))
    assert cli(*flags, "-o", tmp_path / "stopped", "--max-minutes", 1e-6).exit_code == 0
    (tmp_path / "stopped/best.json").unlink()
    shutil.rmtree(own)
    shutil.move(data, tmp_path / "moved")
    shutil.move(tmp_path / "stopped", tmp_path / "elsewhere")
    done = cli("--resume", tmp_path / "elsewhere", "--max-minutes", 60, "--data", tmp_path / "moved")
    assert done.exit_code == 0, done.output
    first, second = tensors(tmp_path / "whole"), tensors(tmp_path / "elsewhere")
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_a_killed_run_with_a_teacher_is_told_where_the_teacher_lies_now(faces, tmp_path, teacher):
    shutil.copytree(teacher, tmp_path / "old")
    given = config(faces, teacher=str(tmp_path / "old"))
    train(given, tmp_path / "whole", quiet=True)
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "whole/config.yaml", tmp_path / "killed")
    (tmp_path / "old").rename(tmp_path / "new")
    assert "no such checkpoint" in cli("--resume", tmp_path / "killed").stderr
    resume(tmp_path / "killed", {"teacher": str(tmp_path / "new")}, quiet=True)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_another_teacher_is_refused(faces, tmp_path, teacher):
    train(config(faces, teacher=str(teacher), max_steps=1), tmp_path / "run", quiet=True)
    other = write_teacher(tmp_path / "other", EXPRESSIONS_8, seed=1)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    done = cli("--resume", tmp_path / "run", "--max-steps", 2, "--teacher", other)
    assert done.exit_code == 2
    assert f"{other}: not the teacher of this run, whose probabilities are in" in done.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before
    shutil.copytree(teacher, tmp_path / "copy")
    done = cli("--resume", tmp_path / "run", "--max-steps", 2, "--teacher", tmp_path / "copy")
    assert done.exit_code == 0, done.output
    # a run without one gets none
    train(config(faces, max_steps=1), tmp_path / "plain", quiet=True)
    done = cli("--resume", tmp_path / "plain", "--max-steps", 2, "--teacher", other)
    assert "teacher cannot change when a run is resumed" in done.stderr


def test_a_teacher_that_lacks_a_class_is_refused(faces, tmp_path):
    poor = write_teacher(tmp_path / "poor", EXPRESSIONS_8[:5])
    done = cli("--data", faces, "-o", tmp_path / "run", *FLAGS, "--teacher", poor)
    assert done.exit_code == 2
    assert f"{poor}: the teacher lacks the classes disgust, anger; it has neutral" in done.stderr
    assert not (tmp_path / "run").exists()


def test_probabilities_of_other_images_are_refused(faces, tmp_path, teacher):
    train(config(faces, teacher=str(teacher), max_steps=1), tmp_path / "run", quiet=True)
    other = write_faces(tmp_path / "other")
    table = other / "labels.csv"
    table.write_text(table.read_text().replace("0.png,neutral", "0.png,anger", 1))
    done = cli("--resume", tmp_path / "run", "--data", other, "--max-steps", 2)
    assert done.exit_code == 2
    assert f"probabilities for other images or labels than {other} has; give --data what" in done.stderr


@pytest.mark.parametrize("content", [b"", b"junk" * 20])
def test_damaged_probabilities_are_named(faces, tmp_path, teacher, content):
    given, data = opened(faces, teacher)
    (tmp_path / TEACHER_NAME).write_bytes(content)
    with pytest.raises(EdgefelError, match=f"{TEACHER_NAME}: cannot be read .*; start a new run"):
        find_teacher(given, tmp_path, data)


def test_a_teacher_with_all_the_weight_makes_labels_irrelevant(faces, tmp_path, teacher):
    changes = {"teacher": str(teacher), "loss.teacher_weight": 1.0, "balanced": False, "max_steps": 3}
    changes |= {"augment.cutmix": 1.0}
    cases = {
        "right": {},
        "noisy": {"label_noise": 1.0},
        "soft": {"loss.soft_labels": True},
        "no weight": {"loss.teacher_weight": 0.0},
        "no teacher": {"teacher": None},
    }
    losses = {}
    for name, more in cases.items():
        train(config(faces, **changes | more), tmp_path / name, quiet=True)
        losses[name] = float(rows(tmp_path / name)[-1]["loss"])
    assert losses["noisy"] == pytest.approx(losses["right"], rel=1e-4)
    assert losses["soft"] == pytest.approx(losses["right"], rel=1e-4)
    assert losses["no weight"] == losses["no teacher"] != pytest.approx(losses["right"], rel=1e-2)


def test_images_and_the_teachers_rows_are_mixed_alike(faces, tmp_path, teacher, monkeypatch):
    """Of labels that are the teacher's own: both targets of a step are then equal."""
    seen, original = [], ReliabilityLoss.__call__

    def noted(self, prediction, target, *others):
        seen.append((target, others[-1]))
        return original(self, prediction, target, *others)

    monkeypatch.setattr(ReliabilityLoss, "__call__", noted)
    given, data = opened(faces, teacher, **{"augment.mixup": 1.0, "loss.soft_labels": True})
    own = data.targets
    monkeypatch.setattr(Teacher, "label", lambda *_, **__: own)
    train(given, tmp_path / "run", quiet=True)
    assert len(seen) == 6
    for target, taught in seen:
        torch.testing.assert_close(target, taught, rtol=1e-5, atol=1e-6)
    assert any((row != own).any(1).all() for target, _ in seen for row in target), "nothing was mixed"
