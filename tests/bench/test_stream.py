"""The stream on a video whose truth is known: identity, labels in time, nothing lost, and the bench's own judgement."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.stream import MIN_FACE, TimedSession, judge, memory_row, overhead_row, truth_row
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import write_video
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import labelled_face
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace

BUNDLE = Path(__file__).parent.parent / "bundles" / "nano-synthetic"
LABELS = ("happiness", "sadness")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of three people, each of whom changes expression once."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    options = VideoOptions(
        seconds=5, fps=15, changes=1, labels=("happiness", "surprise", "disgust", "sadness"), seed=3
    )
    write_video(path, options)
    return path


@pytest.fixture(scope="module")
def session():
    with TimedSession.open(BUNDLE, backend="onnxruntime", threads=1) as opened:
        yield opened


@pytest.mark.slow
def test_people_keep_their_tracks_and_labels_change_in_time(clip, session):
    from edgefel.data.synthetic.video import read_truth

    row = truth_row(clip, session, read_truth(clip))
    assert (row["frames"], row["lost"], row["dropped"], row["strays"]) == (75, 0, 0, 0)
    assert row["keeps_identity"]
    assert row["found"] > 0.98
    assert len(row["changes"]) == 3
    assert row["slowest_change_s"] is not None
    assert row["slowest_change_s"] < 0.5
    assert row["agreement"] > 0.95


@pytest.mark.slow
def test_time_and_memory_of_a_looped_run(clip, session):
    row = overhead_row(clip, session)
    overhead = row["ms_per_frame"]
    parts = overhead["detection"] + overhead["inference"] + overhead["overhead"]
    assert parts == pytest.approx(overhead["all"], abs=0.01)
    assert all(0 < part < overhead["all"] for part in (overhead["detection"], overhead["inference"]))
    # the same work, without the two that take most of the time between
    assert 0 < row["alone"]["ms_per_frame"] < overhead["all"] / 2
    memory = memory_row(clip, session, minutes=0.1)
    assert memory["frames"] == 90
    # what every frame left behind would be 900 KB of it: 80 frames, 72 MB
    assert memory["growth_from_first_mb"] < 20


def face(track: int, x: float, label: str, raw: str | None = None) -> TrackedFace:
    def labelled(name: str):
        values = [0.9, 0.1] if name == LABELS[0] else [0.1, 0.9]
        return labelled_face(FaceBox(round(x), 0, 100), LABELS, values, values, 0.5)

    return TrackedFace(track, labelled(label), True, 1.0, labelled(raw or label))


def results(faces_at) -> list[FrameResult]:
    image = np.zeros((1, 1, 3), np.uint8)
    return [FrameResult(Frame(n, n / 10, image, 0.0), tuple(faces_at(n)), 0.0, 10.0, "x") for n in range(60)]


def truth() -> dict:
    def drawn(person: int, x: float, label: str) -> dict:
        return {"person": person, "centre": [x, 50.0], "side": 100.0, "label": label}

    change = {"person": 1, "time": 3.0, "from": LABELS[0], "to": LABELS[1]}
    frames = [
        {"time": n / 10, "faces": [drawn(1, 50, LABELS[n >= 30]), drawn(2, 350, LABELS[0])]}
        for n in range(60)
    ]
    return {"subjects": [4, 9], "changes": [change], "frames": frames}


def perfect(n: int) -> list[TrackedFace]:
    return [face(1, 0, LABELS[n >= 32]), face(2, 300, LABELS[0])] if n else []


def test_a_perfect_stream_is_judged_so():
    judged = judge(results(perfect), truth())
    assert judged["keeps_identity"]
    assert (judged["found"], judged["lost"], judged["strays"]) == (1.0, 0, 0)
    assert judged["changes"][0]["delay"] == pytest.approx(0.2)
    assert judged["slowest_change_s"] == pytest.approx(0.2)
    assert (judged["agreement"], judged["raw_agreement"]) == (1.0, 1.0)
    assert (judged["flickers"], judged["raw_flickers"]) == (0, 0)


def test_another_spelling_of_a_class_is_that_class():
    spelt = json.loads(json.dumps(truth()).replace("happiness", "Happy").replace("sadness", "sad"))
    found, expected = (judge(results(perfect), one) for one in (spelt, truth()))
    assert (found.pop("changes")[0]["delay"], found) == (expected.pop("changes")[0]["delay"], expected)


def broken(**how) -> dict:
    """What one fault does to the judgement, as the fields that differ."""

    def faces_at(n: int) -> list[TrackedFace]:
        faces = perfect(n)
        if how.get("swap") and n >= 20:
            faces = [dataclasses.replace(one, track=3 - one.track) for one in faces]
        if how.get("new_number") and n >= 20:
            faces = [dataclasses.replace(one, track=one.track + 2 * (one.track == 1)) for one in faces]
        if how.get("stray") == n:
            faces.append(face(9, 1000, LABELS[0]))
        if how.get("missing") and 10 <= n < 16:
            faces = faces[:1]
        if how.get("flicker") == n:
            faces[1] = face(2, 300, LABELS[1])
        if how.get("raw_flicker") == n:
            faces[1] = face(2, 300, LABELS[0], raw=LABELS[1])
        if how.get("stuck"):
            faces = [face(one.track, 300 * (one.track - 1), LABELS[0]) for one in faces]
        return faces

    kept = [result for result in results(faces_at) if result.frame.index != how.get("lost")]
    found = judge(kept, truth())
    good = judge(results(perfect), truth())
    return {name: value for name, value in found.items() if value != good[name]}


def test_every_fault_shows():
    assert broken(swap=True)["tracks"] == [(1, 2), (2, 1)]
    assert broken(new_number=True)["tracks"] == [(1, 3), (2,)]
    assert broken(stray=40) == {"strays": 1}
    assert broken(missing=True) == {"found": pytest.approx((2 * 59 - 6) / (2 * 59))}
    assert broken(flicker=45).keys() == {"flickers", "raw_flickers", "agreement", "raw_agreement"}
    assert broken(raw_flicker=45).keys() == {"raw_flickers", "raw_agreement"}
    assert broken(lost=40)["lost"] == 1
    stuck = broken(stuck=True)
    assert stuck["changes"][0]["delay"] is None
    assert stuck["agreement"] < 0.8


def test_a_label_that_does_not_stay_is_no_change():
    def faces_at(n: int) -> list[TrackedFace]:
        # back to the old label a fifth of a second after it changed, and for good half a second later
        label = LABELS[n in (31, 32) or n >= 36]
        return [face(1, 0, label), face(2, 300, LABELS[0])] if n else []

    assert judge(results(faces_at), truth())["changes"][0]["delay"] == pytest.approx(0.6)


def test_two_people_under_one_number_are_no_identity():
    def faces_at(n: int) -> list[TrackedFace]:
        return [dataclasses.replace(one, track=1) for one in perfect(n)]

    assert not judge(results(faces_at), truth())["keeps_identity"]


def test_the_smallest_face_is_smaller_than_those_drawn():
    assert VideoOptions().sides[0] * 0.8 > MIN_FACE * 480
