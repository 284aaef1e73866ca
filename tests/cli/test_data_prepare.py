"""`edgefel data prepare`: what it says, exit codes, Ctrl-C and kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from data.readers.trees_expw import faces_of_every_class, write_expw
from data.readers.trees_jaffe import write_jaffe
from heeding import heed

from edgefel.cli.main import main
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.files.resumable import partial_folder
from edgefel.runtime.faces import crops, make_detector


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_faces(folder, FaceOptions(count=60, size=128, subjects=14))
    for number in (4, 9):
        cv2.imwrite(str(folder / f"images/{number:06d}.png"), np.full((128, 128, 3), 90, np.uint8))
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["data", "prepare", *map(str, arguments)])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def once(faces, tmp_path_factory):
    """What an uninterrupted run writes, and what it says."""
    output = tmp_path_factory.mktemp("out") / "faces"
    result = run(faces, "-o", output, "--size", 96, "--workers", 2)
    assert result.exit_code == 0, result.output
    return tree(output), result.stdout.replace(str(output), "OUT")


def test_faces_are_what_the_device_would_cut(faces, once):
    files, said = once
    report = json.loads(files["prepare.json"])
    assert f"OUT: {report['faces']} faces of 60 images (train " in said
    assert {"images/000004.png", "images/000009.png"} <= set(report["no_face"])
    assert f"no face found in {len(report['no_face'])}, left out: images/000004.png" in said
    assert "all of them are named in OUT/prepare.json" in said
    dataset, detector = open_dataset(faces), make_detector("haar")
    for index in range(4):
        sample = dataset.samples[index]
        (crop, *_) = crops(sample.load(), detector(sample.load()), 96)
        name = f"{sample.split}/{dataset.labels[sample.label]}/{index:07d}.jpg"
        written = cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        expected = Preprocessing(96, 96).resize_image(crop)
        assert np.abs(written.astype(int) - expected).mean() < 3  # quality 95


def test_json_is_what_the_file_holds(faces, tmp_path):
    result = run(faces, "-o", tmp_path / "out", "--no-detect", "--shards", 40, "--split", "train", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said.pop("output") == str(tmp_path / "out")
    assert said == json.loads((tmp_path / "out/prepare.json").read_text())
    assert said["per_split"].keys() == {"train"}
    assert said["options"]["detector"] == "none"
    assert (tmp_path / "out/train-000000.tar").is_file()
    assert len(open_dataset(tmp_path / "out")) == len(open_dataset(faces, "train"))


def start(*arguments) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgefel.cli.main", "data", "prepare", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_goes_on(faces, once, tmp_path, number):
    output = tmp_path / "out"
    process = start(faces, "-o", output, "--size", 96, "--workers", 1)
    journal = partial_folder(output) / "journal"
    deadline = time.monotonic() + 60
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"finished images are kept in {partial_folder(output)}; the same command continues" in errors
        assert "Traceback" not in errors
    done = journal.read_bytes().count(b"\n") - 1
    assert 3 <= done < 60
    assert not output.exists()
    result = run(faces, "-o", output, "--size", 96, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert f"continuing: {done} of 60 images are done" in result.stderr
    assert (tree(output), result.stdout.replace(str(output), "OUT")) == once
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_persons_are_dealt_to_splits(tmp_path):
    write_jaffe(tmp_path / "jaffe")
    result = run(tmp_path / "jaffe", "-o", tmp_path / "plain", "--no-detect", "--size", 16)
    assert "the set has no splits: give --splits 0.8,0.1,0.1 before training on it" in result.stdout
    assert (tmp_path / "plain/anger").is_dir()
    flags = ("--no-detect", "--size", 16, "--splits", "0.5,0.25,0.25", "--seed", 2)
    result = run(tmp_path / "jaffe", "-o", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    splits = {sample.group: sample.split for sample in open_dataset(tmp_path / "out").samples}
    assert splits.keys() == {"KA", "KL", "KM", "YM"}
    assert set(splits.values()) == {"train", "val", "test"}
    assert all(splits[s.group] == s.split for s in open_dataset(tmp_path / "out").samples)


def test_boxes_of_a_published_layout(tmp_path):
    faces = faces_of_every_class()
    write_expw(tmp_path / "expw", faces)
    result = run(tmp_path / "expw", "-o", tmp_path / "out", "--size", 16, "--format", "png")
    assert result.exit_code == 0, result.output
    prepared = open_dataset(tmp_path / "out")
    assert [prepared.labels[sample.label] for sample in prepared.samples] == [f.expression for f in faces]
    assert [sample.group for sample in prepared.samples] == [face.image for face in faces]
    for sample, face in zip(prepared.samples, faces, strict=True):
        assert np.abs(sample.load()[4:-4, 4:-4].astype(int) - face.colour).max() <= 6


def test_unreadable_images_are_named_and_all_of_them_are_an_error(tmp_path):
    write_jaffe(tmp_path / "jaffe")
    (tmp_path / "jaffe/KA.AN1.39.tiff").write_bytes(b"")
    result = run(tmp_path / "jaffe", "-o", tmp_path / "out", "--no-detect")
    assert result.exit_code == 0
    named = "unreadable: 1, left out: KA.AN1.39.tiff (the file is empty)"
    assert named in result.stdout
    for file in (tmp_path / "jaffe").glob("*.tiff"):
        file.write_bytes(b"")
    result = run(tmp_path / "jaffe", "-o", tmp_path / "none", "--no-detect")
    assert result.exit_code == 2
    assert "none of its 8 images can be read" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jaffe", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--no-detect", "--missing", "center"), "--no-detect and --missing exclude each other"),
        (
            ("--no-detect", "--detector-model", "x.onnx"),
            "--no-detect and --detector-model exclude each other",
        ),
        (
            ("--detector", "yunet"),
            "YuNet needs its ONNX file: run 'edgefel detector get', or give one with --detector-model FILE",
        ),
        (("--detector", "yunet", "--detector-model", "x.onnx"), "x.onnx: no such file; give YuNet's"),
        (("--splits", "0.8,0.1"), "give three shares"),
        (("--splits", "most,some,few"), "give the shares of train, val and test"),
        (("--splits", "0.8,0.1,0.1"), "has splits of its own"),
        (("--seed", "3"), "--seed belongs to --splits"),
        (("--layout", "imagenet"), "layout 'imagenet' is not known"),
        (("--split", "holdout"), "'holdout' is not one of"),
        (("--size", "8"), "8 is not in the range"),
    ],
)
def test_bad_input_is_one_line_and_2(faces, tmp_path, arguments, message):
    result = run(faces, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []
