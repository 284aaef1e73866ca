"""`edgefel run` end to end: outputs, errors, ends, and what a person is told."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from labelled_runs import CLIP, NANO, lines, run, start, wait_for

from edgefel.cli.main import main
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[dict]]:
    """A run over the clip: what it printed, and its results."""
    listing = tmp_path_factory.mktemp("whole") / "faces.jsonl"
    result = run(NANO, clip, "-o", listing)
    assert result.exit_code == 0, result.output
    return result, [json.loads(line) for line in listing.read_text().splitlines()]


def test_a_line_of_json_for_each_frame(clip, whole):
    _, rows = whole
    assert [row["frame"] for row in rows] == list(range(40))
    assert rows[20]["time"] == pytest.approx(2.0)
    assert {row["source"] for row in rows} == {str(clip)}
    faces = rows[20]["faces"]
    assert sorted(face["track"] for face in faces) == [1, 2]
    for face in faces:
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert face["label"] == max(face["probabilities"], key=face["probabilities"].get)
        assert face["raw_label"] in face["probabilities"]
        assert 0 <= face["confidence"] <= 1


def test_label_changes_are_told_when_they_come(whole):
    result, _ = whole
    found = re.findall(
        r"([\d.]+) s  person (\d)  (\w+)(?: -> (\w+))?  \(\d+%, confidence [\d.]+\)", result.stdout
    )
    assert len(found) == len(result.stdout.splitlines())
    for change in SyntheticVideo(CLIP).changes:
        told = [row for row in found if row[2:] == (change.first, change.second)]
        assert any(abs(float(time) - change.time) < 0.7 for time, *_ in told), (change, found)
    assert "model.fp32.onnx by onnxruntime (asked for)" in result.stderr
    assert "policy all" in result.stderr
    assert "inference" in result.stderr
    assert "frames per second" in result.stderr


def test_every_output_at_once(clip, tmp_path):
    table, listing, video = tmp_path / "faces.csv", tmp_path / "faces.jsonl", tmp_path / "out.mkv"
    metrics = tmp_path / "metrics.jsonl"
    outputs = ("-o", table, "-o", listing, "--save", video, "--metrics", metrics, "--frames", 12)
    result = run(NANO, clip, *outputs)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert len(rows) == 12
    with table.open(newline="") as stream:
        cells = list(csv.DictReader(stream))
    assert len(cells) == sum(len(row["faces"]) for row in rows) == 22
    assert cells[-1]["label"] == rows[-1]["faces"][-1]["label"]
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["counters"]["frames"] == 12
    assert last["stages_ms"]["inference"]["count"] > 0
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 12
    plain = cv2.cvtColor(SyntheticVideo(CLIP).frame(11), cv2.COLOR_RGB2BGR)
    # tags, boxes and the line of numbers; the codec changes no pixel so much
    assert (np.abs(frames[11].astype(int) - plain).max(axis=2) > 60).mean() > 0.01

    again = run(NANO, clip, "-o", table)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run(NANO, clip, "-o", table, "--overwrite", "--frames", 3).exit_code == 0


def test_below_the_threshold_a_face_is_unsure(clip):
    rows = lines(run(NANO, clip, "--json", "--min-confidence", 1, "--frames", 5))
    assert [row["frame"] for row in rows] == list(range(5))
    (face, *_) = rows[-1]["faces"]
    assert face["label"] == "unsure"
    assert face["top_label"] in face["probabilities"]


def test_looking_near_known_faces_finds_them_too(clip, whole):
    _, rows = whole
    fifth = lines(run(NANO, clip, "--json", "--frames", 20, "--detect-every", 5))
    assert [len(row["faces"]) for row in fifth] == [len(row["faces"]) for row in rows[:20]]


def test_images_of_a_folder_are_people_of_their_own(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    frame = cv2.cvtColor(SyntheticVideo(CLIP).frame(3), cv2.COLOR_RGB2BGR)
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(folder / name), frame)
    (folder / "b.png").write_bytes(b"not an image")
    result = run(NANO, folder, "--json")
    rows = lines(result)
    assert [(Path(row["source"]).name, [face["track"] for face in row["faces"]]) for row in rows] == [
        ("a.png", [1, 2]),
        ("c.png", [3, 4]),
    ]
    assert f"1 image skipped, since unreadable: {folder / 'b.png'}" in result.stderr
    sequence = lines(run(NANO, folder, "--json", "--fps", 5))
    assert [face["track"] for face in sequence[1]["faces"]] == [1, 2]


def test_a_truncated_video_is_labelled_as_far_as_it_goes(clip, tmp_path):
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, CLIP.size)
    video = SyntheticVideo(CLIP)
    for index in range(16):
        writer.write(cv2.cvtColor(video.frame(index), cv2.COLOR_RGB2BGR))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = run(NANO, cut, "--json")
    rows = lines(result)
    assert 5 < len(rows) < 16
    missing = re.search(
        r"^(\d+) announced frames missing at the end of the file", result.stderr, re.MULTILINE
    )
    assert len(rows) + int(missing[1]) >= 15


def test_a_frame_with_nobody_and_one_with_forty(tmp_path):
    video = SyntheticVideo(VideoOptions(seconds=1, fps=4, size=(1280, 800), faces=40, changes=0, seed=3))
    crowd = cv2.cvtColor(video.frame(0), cv2.COLOR_RGB2BGR)
    empty = np.full((200, 320, 3), 90, np.uint8)
    for number, image in enumerate((empty, crowd, empty)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    nobody, forty, again = lines(run(NANO, tmp_path, "--json", "--min-face", 0.05))
    assert nobody["faces"] == again["faces"] == []
    assert len(forty["faces"]) >= 30
    assert len({face["track"] for face in forty["faces"]}) == len(forty["faces"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source", "nowhere.mp4"), "nowhere.mp4: no such file or folder"),
        (("--source", ""), "--source is empty"),
        (("--source", "csi:x"), "csi:x: no such file or folder"),
        (("-o", "faces.txt"), "faces.txt: unknown kind of results; name it .jsonl or .csv"),
        (("--backend", "tensorrt"), "tensorrt"),
        (("--detector", "yunet"), "YuNet needs its ONNX file"),
        (("--show",), "window"),
        (("--show", "-o", "faces.csv", "-o", "faces.jsonl"), "window"),
        (("-o", "-"), "-: results go to standard output with --json"),
        (("-o", "faces.csv", "-o", "faces.txt"), "faces.txt: unknown kind of results"),
        (("-o", "faces.csv", "-o", "./faces.csv", "--overwrite"), "faces.csv: is named by -o and by -o"),
        (
            ("-o", "a.jsonl", "--metrics", "a.jsonl", "--overwrite"),
            "a.jsonl: is named by -o and by --metrics",
        ),
        (("--metrics-every", "2"), "--metrics-every belongs to --metrics"),
        (("--metrics-host", "0.0.0.0"), "--metrics-host belongs to --metrics-port"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tiny, clip, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main, ["run", str(tiny), "--source", str(clip), *options], catch_exceptions=False
    )
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("error: ") == 1
    assert not list(tmp_path.iterdir())


def test_the_source_is_never_overwritten(tiny, clip):
    before = clip.read_bytes()
    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    for target in (clip, link):
        result = run(tiny, clip, "--save", target, "--overwrite")
        assert result.exit_code == 2
        assert f"error: {target}: is named by --source and by --save" in result.stderr
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    "option",
    ["--fps", "--patience", "--min-face", "--smoothing", "--min-confidence", "--seconds", "--metrics-every"],
)
def test_not_a_number_is_no_number(tiny, clip, option):
    result = run(tiny, clip, option, "nan")
    assert result.exit_code == 2
    assert "nan is not a finite number" in result.stderr


def test_a_refused_run_keeps_the_results_of_an_earlier_one(tiny, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("faces.csv").write_text("earlier\n")
    for options in (("-o", "new.jsonl", "-o", "faces.csv"), ("--overwrite", "-o", "faces.csv", "--show")):
        assert run(tiny, clip, *options).exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]
        assert Path("faces.csv").read_text() == "earlier\n"


def test_a_broken_video_is_one_line_of_ours_alone(tiny, tmp_path):
    (tmp_path / "empty.mp4").touch()
    process = start(tiny, tmp_path / "empty.mp4")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.splitlines()  # told before the model is loaded
    assert line.startswith(f"error: {tmp_path / 'empty.mp4'}: ")


def test_not_a_bundle(tmp_path, clip):
    result = run(tmp_path, clip)
    assert result.exit_code == 2
    assert "manifest.json" in result.stderr


def test_names_are_checked_before_the_model_is_loaded(not_a_bundle, clip, tmp_path):
    """What is wrong with source and outputs is told before the bundle is opened."""
    (tmp_path / "faces.csv").write_text("earlier\n")
    for source, options, message in (
        (tmp_path / "nowhere.mp4", (), "nowhere.mp4: no such file"),
        ("gopher://x", (), "unknown kind of address"),
        ("97", (), "/dev/video97: no such device"),
        (clip, ("--save", tmp_path / "x.gif"), "x.gif: unknown kind of video"),
        (clip, ("-o", tmp_path / "faces.csv"), "faces.csv: exists"),
        (clip, ("-o", tmp_path / "faces.txt"), "faces.txt: unknown kind of results"),
    ):
        result = run(not_a_bundle, source, *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "faces.csv").read_text() == "earlier\n"


def test_metrics_for_prometheus_while_it_runs(tiny, clip):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(tiny, clip, "--loop", "--metrics-port", port)
    try:

        def frames() -> float:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                return 0.0
            found = re.search(r'^edgefel_events_total{event="frames"} ([\d.e+]+)$', page, re.MULTILINE)
            return float(found[1]) if found else 0.0

        wait_for(lambda: frames() > 10)
        before = frames()
        wait_for(lambda: frames() > before)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_the_help_has_examples_and_needs_nothing():
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-m", "edgefel.cli.main", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    for word in ("Examples:", "--source csi --show", "--min-confidence", "--metrics-port"):
        assert word in result.stdout


def test_without_a_bundle_the_network_that_comes_with_edgefel_labels(shipped, clip):
    options = ("--source", clip, "--frames", "5", "--json")
    own = CliRunner().invoke(main, ["run", *map(str, options)])
    assert own.exit_code == 0, own.stderr
    faces = [
        [face["probabilities"] for face in json.loads(line)["faces"]] for line in own.stdout.splitlines()
    ]
    given = CliRunner().invoke(main, ["run", str(shipped), *map(str, options)])
    assert faces == [
        [face["probabilities"] for face in json.loads(line)["faces"]] for line in given.stdout.splitlines()
    ]
    assert any(faces)


def test_without_a_bundle_and_without_that_network(none_shipped, clip):
    result = CliRunner().invoke(main, ["run", "--source", str(clip)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: this installation holds no network; give BUNDLE")
