"""1 % corrupt files: training goes on without them, and it and `edgefel data inspect` name the same ones."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
from corrupt_files import RESULT, SHARE, WAYS, listed_by_inspect, listed_by_train, spoil  # noqa: E402

IMAGES = 600
FLAGS = ["--model", "poster-v2-nano", "--accelerator", "cpu", "--workers", 1]
FLAGS += ["--epochs", 1, "--batch-size", 7, "--per-class", 2]


def edgefel(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> tuple[Path, set[str]]:
    """A data set with one file spoilt in each way, and their paths in it."""
    folder = tmp_path_factory.mktemp("data") / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        # of noise, which OpenCV decodes also if the file goes on with zeros
        image = rng.integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), image)
        split = "val" if number % 5 == 0 else "train"
        rows.append((f"{number}.jpg", EXPRESSIONS_7[number % 7], split, f"s{number % 60}"))
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split", "subject"), *rows])
    spoilt = spoil(folder, round(SHARE * IMAGES))
    assert {one.way for one in spoilt} == WAYS.keys()
    assert {one.split for one in spoilt} == {"train", "val"}
    return folder, {one.path for one in spoilt}


def test_training_ends_well_and_both_name_every_corrupt_file(faces, tmp_path):
    folder, spoilt = faces
    done = edgefel("train", "--data", folder, "-o", tmp_path / "run", *FLAGS)
    assert done.exit_code == 0, done.output
    by_train = listed_by_train(done.stderr, folder)
    assert by_train.keys() == spoilt
    skipped = json.loads((tmp_path / "run/skipped.json").read_text())
    assert sorted(skipped) == ["train", "val"]
    stem = f"{folder}/"
    named = {line.removeprefix(stem).split(": ")[0] for lines in skipped.values() for line in lines}
    assert named == spoilt
    assert f"all with their reasons: {tmp_path / 'run/skipped.json'}" in done.stderr
    assert f"skipped {len(spoilt)} unreadable images" in done.stderr
    with (tmp_path / "run/metrics.csv").open() as stream:
        last = list(csv.DictReader(stream))[-1]
    of_train = sum(int(Path(path).stem) % 5 != 0 for path in spoilt)
    assert (int(last["skipped_images"]), int(last["step"])) == (of_train, 2)
    assert math.isfinite(float(last["loss"]) + float(last["val_loss"]))
    assert load_checkpoint(tmp_path / "run").labels == EXPRESSIONS_7

    checked = edgefel("data", "inspect", folder, "--strict", "--json")
    assert checked.exit_code == 3
    assert listed_by_inspect(json.loads(checked.stdout), folder).keys() == by_train.keys()


def test_the_committed_result_is_of_10_000_files_and_none_was_overlooked():
    document = json.loads(RESULT.read_text())
    assert document["images"] == 10_000
    assert sum(document["spoilt"].values()) == len(document["files"]) == 100
    assert document["spoilt"].keys() == WAYS.keys()
    for command, code in (("inspect", 3), ("train", 0)):
        found = document[command]
        assert found["exit_code"] == code
        assert found["listed"] == found["spoilt"] > 0
        assert found["not_listed"] == found["listed_although_sound"] == []
    page = " ".join((ROOT / "docs/data-preparing.md").read_text().split())
    inspect, train = (document[command]["listed"] for command in ("inspect", "train"))
    assert f"listed {inspect} of 100, `edgefel train` {train} of the {document['train']['spoilt']}" in page
