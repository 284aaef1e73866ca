"""`edgefel run --report`: what it says of a video with a known script, how it ends, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from heeding import heeding
from labelled_runs import NANO, QUICK, run, start, wait_for

from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo, read_truth, write_video

SCRIPT = VideoOptions(seconds=8, fps=12, size=(480, 360), faces=2, changes=3, seed=11)
MOST_LATE = 0.5  # seconds


def data_of(page: Path) -> list[dict]:
    """The segments and cuts of a report."""
    (found,) = re.findall(
        r'<script type="application/json" id="rows">(.*?)</script>', page.read_text(), re.DOTALL
    )
    return json.loads(found)


def people_of(page: Path) -> dict[int, list[dict]]:
    """The segments of each person."""
    people: dict[int, list[dict]] = {}
    for row in data_of(page):
        if row["kind"] == "segment":
            people.setdefault(row["person"], []).append(row)
    return people


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """A video of known changes and its report: truth, page, results of every frame, messages."""
    folder = tmp_path_factory.mktemp("scripted")
    clip, page, listing = folder / "clip.mp4", folder / "report.html", folder / "faces.jsonl"
    write_video(clip, SCRIPT)
    result = run(NANO, clip, "--report", page, "--thumbnails", "-o", listing)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    return read_truth(clip), page, rows, result.stderr


@pytest.fixture(scope="module")
def who(scripted) -> dict[int, int]:
    """Person of the report -> person of the script, by where their faces are."""
    truth, _, rows, _ = scripted
    found: dict[int, set[int]] = {}
    for row in rows:
        for face in row["faces"]:
            box = face["box"]
            centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            there = truth["frames"][row["frame"]]["faces"]
            nearest = min(there, key=lambda one: np.hypot(*np.subtract(one["centre"], centre)))
            found.setdefault(face["track"], set()).add(nearest["person"])
    assert all(len(people) == 1 for people in found.values())
    return {track: people.pop() for track, people in found.items()}


def test_every_scripted_change_is_there_in_time_and_no_other(scripted, who):
    truth, page, *_ = scripted
    people = people_of(page)
    assert sorted(who[number] for number in people) == [1, 2]
    for number, segments in people.items():
        told = [(one["label"], two["label"], two["begin"]) for one, two in pairwise(segments)]
        changes = [change for change in truth["changes"] if change["person"] == who[number]]
        assert [pair[:2] for pair in told] == [(change["from"], change["to"]) for change in changes]
        for (*_, time), change in zip(told, changes, strict=True):
            assert 0 <= time - change["time"] <= MOST_LATE


def test_segments_are_the_labels_of_the_frames(scripted):
    _, page, rows, _ = scripted
    people = people_of(page)
    frames = 0
    for row in rows:
        for face in row["faces"]:
            (now,) = [
                one for one in people[face["track"]] if one["begin"] - 1e-3 <= row["time"] < one["end"] - 1e-3
            ]
            assert now["label"] == face["label"]
            frames += 1
    assert frames > 180


def test_the_table_has_the_shares_of_the_script(scripted, who):
    truth, page, results, _ = scripted
    with page.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    for row in rows:
        person = who[int(row["person"])]
        labels = [
            face["label"] for frame in truth["frames"] for face in frame["faces"] if face["person"] == person
        ]
        frames = sum(face["track"] == int(row["person"]) for result in results for face in result["faces"])
        assert int(row["frames"]) == frames
        assert float(row["seconds"]) == pytest.approx(frames / 12, abs=2e-3)
        shares = {name[6:]: float(value) for name, value in row.items() if name.startswith("share_")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        for label, share in shares.items():
            # each of three changes may be half a second late
            assert share == pytest.approx(labels.count(label) / len(labels), abs=1.5 / 8)
            assert float(row[f"low_{label}"]) <= share <= float(row[f"high_{label}"])
        assert int(row["changes"]) == 3


def test_the_page_says_what_it_was_made_of(scripted):
    _, page, rows, messages = scripted
    text = page.read_text()
    assert "<h1>clip.mp4</h1>" in text
    assert "network: arbex-nano, model.fp32.onnx by onnxruntime" in text
    assert "smoothing: 0.2 s" in text
    assert f"frames: {len(rows)} labelled" in text
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[^"]+" width="96"', text)) >= 6
    assert f"{page}: report of 2 people; {page.with_suffix('.csv')}: a row for each" in messages


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_a_run_with_the_report_of_what_was_seen(tiny, clip, tmp_path, number, code):
    page, listing = tmp_path / "report.html", tmp_path / "faces.jsonl"
    process = start(tiny, clip, "--loop", "--report", page, "-o", listing)
    wait_for(lambda: listing.exists() and listing.read_text().count("\n") > 20)
    assert not page.exists()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    seen = [row["time"] for row in rows for face in row["faces"]]
    segments = [row for row in data_of(page) if row["kind"] == "segment"]
    assert max(row["end"] for row in segments) >= max(seen)
    assert f"{page}: report of " in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.jsonl", "report.csv", "report.html"]


def test_a_lost_source_ends_a_run_with_the_report_of_what_was_seen(tiny, clip, tmp_path, monkeypatch):
    from edgefel.errors import EdgefelError
    from edgefel.runtime.stream.video import VideoFile

    read = VideoFile.read

    def fail(self):
        frame = read(self)
        if frame is not None and frame.index == 12:
            raise EdgefelError("the cable is out")
        return frame

    monkeypatch.setattr(VideoFile, "read", fail)
    result = run(tiny, clip, "--report", tmp_path / "report.html")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: the cable is out"
    assert "frames: 12 labelled" in (tmp_path / "report.html").read_text()


def test_a_second_ctrl_c_does_not_wait_for_the_page(tiny, clip, tmp_path, monkeypatch):
    from edgefel.runtime.stream.report import sink

    def interrupted(*arguments: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "never"

    monkeypatch.setattr(sink, "render", interrupted)
    with heeding():
        result = run(tiny, clip, "--report", tmp_path / "report.html", "--frames", 5)
    assert result.exit_code == 130
    # the table was complete before
    assert [path.name for path in tmp_path.iterdir()] == ["report.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--report", "report.pdf"), "report.pdf: a report is a page; give a name that ends in .html"),
        (("--report", "folder.html"), "folder.html: is a folder"),
        (("--report", "mine.html"), "mine.html: exists; choose another name"),
        (("--report", "table.html"), "table.csv: exists; choose another name"),
        (("--thumbnails",), "--thumbnails belongs to --report"),
        (
            ("--report", "a.html", "-o", "a.csv", "--overwrite"),
            "a.csv: is named by -o and by --report, as its table,; give each a file of its own",
        ),
        (("--report", "a.html", "--show"), "window"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_opened(
    tiny, not_a_bundle, clip, options, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    for name in ("mine.html", "table.csv"):
        Path(name).write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    bundle = tiny if "--show" in options else not_a_bundle
    result = run(bundle, clip, *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("error: ") == 1
    assert "report of" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path("mine.html").read_text() == "mine"


def test_the_source_is_never_overwritten(tiny, clip, tmp_path):
    link = tmp_path / "report.html"
    link.symlink_to(clip)
    before = clip.read_bytes()
    result = run(tiny, clip, "--report", link, "--overwrite")
    assert result.exit_code == 2
    assert "is named by --source and by --report" in result.stderr
    assert clip.read_bytes() == before


def test_images_without_a_rate_have_no_timeline(tiny, not_a_bundle, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        image = cv2.cvtColor(SyntheticVideo(SCRIPT).frame(index), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    result = run(not_a_bundle, folder, "--report", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "images without an order in time, and --report needs a sequence; give their --fps" in result.stderr
    assert run(tiny, folder, "--report", tmp_path / "report.html", "--fps", 4).exit_code == 0
    assert "frames: 4 labelled" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_without_what_draws_it_nothing_is_opened(module, not_a_bundle, clip, tmp_path):
    """What is missing is told before the bundle is opened."""
    code = f"""
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)
from edgefel.cli.main import main
main()
"""
    options = ["run", not_a_bundle, "--source", clip, *QUICK, "--report", tmp_path / "report.html"]
    command = [sys.executable, "-c", code, *map(str, options)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.startswith("error: ")
    assert "edgefel[report]" in line
    assert not list(tmp_path.iterdir())
