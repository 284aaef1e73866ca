"""Videos of drawn faces: what they show is what their truth says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo, read_truth, write_video
from edgefel.data.synthetic.video_people import Placed
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import HaarDetector

SHORT = VideoOptions(seconds=4, fps=10, size=(400, 300), faces=2, changes=1)


@pytest.fixture(scope="module")
def video() -> SyntheticVideo:
    return SyntheticVideo(SHORT)


def test_a_frame_depends_on_nothing_but_its_index(video: SyntheticVideo) -> None:
    backwards = {index: video.frame(index) for index in (39, 20, 3)}
    again = SyntheticVideo(SHORT)
    for index in (3, 20, 39):
        np.testing.assert_array_equal(again.frame(index), backwards[index])
        assert again.faces(index) == video.faces(index)
    other = SyntheticVideo(dataclasses.replace(SHORT, seed=SHORT.seed + 1))
    assert (other.frame(3) != backwards[3]).mean() > 0.5
    with pytest.raises(IndexError):
        video.frame(40)


def test_labels_change_at_the_known_times_and_at_no_other(video: SyntheticVideo) -> None:
    assert [change.person for change in sorted(video.changes, key=lambda c: c.person)] == [1, 2]
    for change in video.changes:
        seen = [video.faces(index)[change.person - 1] for index in range(len(video))]
        assert change.first != change.second
        at = round(change.time * SHORT.fps)
        assert [face["label"] for face in seen] == [change.first] * at + [change.second] * (40 - at)
        assert [index for index, face in enumerate(seen) if face["changing"]] == [at]
        assert 1.5 <= change.time <= 2.5


def test_an_expression_changes_on_the_face_alone_and_gradually() -> None:
    options = VideoOptions(seconds=5, fps=20, faces=1, pose=0, changes=1, transition=0.4, size=(300, 300))
    video = SyntheticVideo(options)
    # the same place and size in all frames: what is left is the expression
    still = dataclasses.replace(
        video._motions[0], reach=(0.0, 0.0), sides=(options.sides[1], options.sides[1])
    )
    video._motions = (still,)
    at = round(video.changes[0].time * 20)
    frames = [video.frame(index).astype(int) for index in range(at - 6, at + 7)]
    steps = [np.abs(b - a).max(axis=2) for a, b in itertools.pairwise(frames)]
    changing = [step.max() > 8 for step in steps]
    assert changing == [False] * 2 + [True] * 8 + [False] * 2
    # nothing flickers while the expression holds, and the background never does
    assert max(step.max() for step, moves in zip(steps, changing, strict=True) if not moves) == 0
    assert max(step[:30].max() for step in steps) == 0
    whole = np.abs(frames[-1] - frames[0])
    assert max(step.sum() for step in steps) < 0.5 * whole.sum()


def test_people_keep_to_their_part_of_the_frame_and_move_smoothly() -> None:
    video = SyntheticVideo(VideoOptions(seconds=20, fps=30, faces=7, changes=0, size=(1280, 720)))
    frames = [video._motions[person].at(index / 30) for person in range(7) for index in range(600)]
    places = np.array([(*one.centre, one.side) for one in frames]).reshape(7, 600, 3)
    assert np.abs(np.diff(places, axis=1)).max() < 6  # pixels per frame
    assert (places[..., 2].min(), places[..., 2].max()) >= video.options.sides[:1]
    assert places[..., 2].max() <= video.options.sides[1]
    assert np.ptp(places, axis=1)[:, :2].max(axis=1).min() > 10
    for one, other in itertools.combinations(places, 2):
        apart = np.abs(one[:, :2] - other[:, :2]).max(axis=1)
        assert (apart > (one[:, 2] + other[:, 2]) / 2).all()
    assert places[..., 0].min() > 0
    assert places[..., 1].max() < 720


def test_the_known_eyes_are_where_a_detector_sees_them(video: SyntheticVideo) -> None:
    detector = HaarDetector(0.15)
    errors = []
    for index in (0, 13, 26, 39):
        boxes = detector(video.frame(index))
        faces = video.faces(index)
        assert len(boxes) == 2
        for face in faces:
            (box,) = [
                b for b in boxes if np.hypot(*np.subtract(b.centre, face["centre"])) < 0.2 * face["side"]
            ]
            assert box.side == pytest.approx(face["side"], rel=0.15)
            if box.eyes is not None:
                errors.append(np.abs(np.subtract(box.eyes, face["eyes"])).max() / face["side"])
    assert len(errors) >= 4
    assert np.median(errors) < 0.04


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.14, 0.0, 0.0), (0.0, 0.1, 0.0), (0.14, -0.07, 0.1)])
def test_projection_is_where_the_image_shows_it(video: SyntheticVideo, turn: tuple[float, ...]) -> None:
    """A dot painted on the surface is found in the image where `project` says."""
    from edgefel.data.synthetic.canvas import grid
    from edgefel.data.synthetic.video_people import lay_on

    portrait = video._sitters[0].portrait("neutral", "neutral", 0.0)
    dotted = portrait.rgba.copy()
    dotted[..., :3] = 0
    place, depth = portrait.pupils()[1]
    at = grid(len(dotted)).to_pixels(np.array(place))
    cv2.circle(dotted, at.tolist(), 3 * 16, (255, 255, 255, 255), -1, cv2.LINE_AA, 4)
    placed = Placed((150.3, 140.8), 120.0, *turn)
    frame = np.zeros((300, 300, 3), np.uint8)
    lay_on(frame, dataclasses.replace(portrait, rgba=dotted), placed)
    light = frame[..., 0].astype(np.float64)
    rows, columns = np.mgrid[0:300, 0:300]
    seen = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
    assert seen == pytest.approx(placed.project(place, depth), abs=0.6)


def test_what_is_written_reads_back(tmp_path: Path, video: SyntheticVideo) -> None:
    done: list[int] = []
    truth = write_video(tmp_path / "clip.mp4", SHORT, progress=done.append)
    assert sum(done) == 40
    assert read_truth(tmp_path / "clip.mp4") == truth == json.loads(json.dumps(truth))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.json", "clip.mp4"]
    assert [entry["faces"] for entry in truth["frames"]] == [video.faces(index) for index in range(40)]
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    for index in range(40):
        ok, frame = capture.read()
        assert ok
        # within what the codec loses
        assert np.abs(frame[..., ::-1].astype(int) - video.frame(index)).mean() < 4
    assert not capture.read()[0]


def test_many_faces_and_none() -> None:
    crowd = SyntheticVideo(VideoOptions(seconds=0.1, faces=40, changes=0, size=(1280, 960)))
    boxes = HaarDetector(0.05, eyes=False)(crowd.frame(0))
    assert len(boxes) >= 36
    assert len(crowd.faces(0)) == 40
    empty = SyntheticVideo(VideoOptions(seconds=0.1, faces=0, size=(320, 240)))
    assert empty.faces(0) == []
    assert HaarDetector()(empty.frame(0)) == []


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["data", "video", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_command(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    options = ("--seconds", 4, "--fps", 5, "--size", "320x240", "--faces", 1, "--changes", 1)
    chosen = ("--expression", "neutral", "--expression", "surprise", "--seed", 5)
    code, out, _ = run("-o", clip, *options, *chosen, "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["frames"] == 20
    assert summary["changes"] == read_truth(clip)["changes"]
    assert {summary["changes"][0][key] for key in ("from", "to")} == {"neutral", "surprise"}
    before = clip.read_bytes()
    code, _, err = run("-o", clip, *options, *chosen)
    assert (code, err.count("\n")) == (2, 1)
    assert "exists; choose another name, or allow it with --overwrite" in err
    assert clip.read_bytes() == before
    code, out, _ = run("-o", clip, *options, *chosen, "--overwrite")
    assert code == 0
    assert f"{clip}: 20 frames of 320x240, 1 face" in out
    assert "person 1: " in out


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clip.avi", (), "ends in .mp4"),
        ("clip.mp4", ("--faces", "65"), "faces=65"),
        ("clip.mp4", ("--size", "640"), "give it as 640x480"),
    ],
)
def test_refusals_write_nothing(tmp_path: Path, name: str, options: tuple[str, ...], message: str) -> None:
    code, out, err = run("-o", tmp_path / name, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "clip.mp4", SHORT, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.json"])
def test_what_is_there_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    code, _, err = run("-o", tmp_path / "clip.mp4", "--seconds", "4", "--changes", "1")
    assert code == 2
    assert f"error: {tmp_path / name}: exists; choose another name" in err
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


def test_a_video_that_was_not_completed_is_kept_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "clip.part.mp4").write_bytes(b"what a killed run recorded")
    write_video(tmp_path / "clip.mp4", dataclasses.replace(SHORT, seconds=0.5, changes=0))
    kept = tmp_path / "clip.interrupted.mp4"
    assert kept.read_bytes() == b"what a killed run recorded"
    assert caplog.messages == [f"{tmp_path / 'clip.mp4'}: a video that was not completed is now {kept}"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from edgefel.cli.main import main
main(["data", "video", "-o", sys.argv[1], "--seconds", "4", "--fps", "10", "--size", "320x240", "--changes", "1"])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "clip.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"error: {tmp_path / 'clip.mp4'}: not every frame could be written (File too large)"
    )
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_no_truth(tmp_path: Path) -> None:
    (tmp_path / "clip.json").write_text('{"format": "else"}')
    with pytest.raises(EdgefelError, match="not the truth of a synthetic video"):
        read_truth(tmp_path / "clip.mp4")
    with pytest.raises(EdgefelError, match="no such file"):
        read_truth(tmp_path / "other.mp4")
