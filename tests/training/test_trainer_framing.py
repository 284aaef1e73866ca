"""A run records how the faces of its data are framed, once, and how much detail its images have."""

from __future__ import annotations

import json

import pytest
from training.runs import config

from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.models.checkpoint import load_checkpoint, read_framing, read_preprocessing
from edgefel.models.registry import model_config
from edgefel.training import loop, trainer
from edgefel.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write_faces(folder, FaceOptions(count=56, size=96, subjects=14))
    return folder


def test_the_framing_is_measured_and_outlives_a_resume(drawn, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(config(drawn, epochs=1), run, quiet=True)
    framing = load_checkpoint(run).framing
    # drawn faces: eyes at 0.38 to 0.40 of the height, 0.35 to 0.36 of the width apart, by either detector
    assert framing.eyes_down == pytest.approx(0.385, abs=0.02)
    assert framing.eyes_apart == pytest.approx(0.36, abs=0.02)
    assert framing.faces >= 20

    def measured_again(*arguments):
        raise AssertionError("a resumed run knows its framing")

    monkeypatch.setattr(trainer, "run_framing", measured_again)
    assert loop.resume(run, {"epochs": 2}, quiet=True).epoch == 2
    last = json.loads((run / "last.json").read_text())["checkpoint"]
    assert read_framing(run / last) == framing


def test_the_detail_is_that_of_the_training_images(faces, drawn, tmp_path):
    """Of a run that began before details were recorded too, when it goes on. The images themselves lose nothing."""
    side = min(open_dataset(drawn).load(0).shape[:2])
    settings = config(drawn, epochs=1)
    assert default_preprocessing(model_config(settings.model).input_size).resize > side == 96
    train(settings, tmp_path / "run", quiet=True)
    assert load_checkpoint(tmp_path / "run").preprocessing["detail"] == side
    for description in (tmp_path / "run" / "checkpoints").rglob("model.json"):
        values = json.loads(description.read_text())
        del values["preprocessing"]["detail"]
        description.write_text(json.dumps(values))
    assert loop.resume(tmp_path / "run", {"epochs": 2}, quiet=True).epoch == 2
    last = json.loads((tmp_path / "run/last.json").read_text())["checkpoint"]
    assert read_preprocessing(tmp_path / "run" / last)["detail"] == side


def test_images_without_faces_leave_it_unknown(faces, tmp_path, capsys):
    train(config(faces, epochs=1), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").framing is None
    shown = capsys.readouterr()
    assert "framing: not known" in shown.out + shown.err
    description = next((tmp_path / "run" / "checkpoints").rglob("model.json"))
    assert "framing" not in json.loads(description.read_text())
