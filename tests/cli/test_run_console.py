"""What `edgefel run` prints beside its results: label changes, progress, problems of the source."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rich.console import Console

from edgefel.cli.run_console import LabelChanges, run_progress, say_summary
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.frames import Frame, FrameResult, SourceCounts, TrackedFace
from edgefel.runtime.stream.sinks import SinkClosed
from edgefel.runtime.telemetry.telemetry import Telemetry


def tracked(track: int, label: str = "anger", *, sure: bool = True) -> TrackedFace:
    face = LabelledFace(FaceBox(3, 5, 40), label, label, 0.5, {label: 0.75}, {label: 0.6})
    return TrackedFace(track, face, sure, 1.0, face)


def result(index: int, *faces: TrackedFace, name: str | None = None) -> FrameResult:
    frame = Frame(index, index / 10, np.zeros((4, 4, 3), np.uint8), 0.0, name)
    return FrameResult(frame, faces, 0.0123, 29.7, "camera 0")


def test_a_label_is_printed_when_it_changes(capsys):
    changes = LabelChanges()
    for index, face in enumerate((tracked(1), tracked(1), tracked(1, sure=False), tracked(1, "fear"))):
        changes.write(result(index, face), None)
    changes.write(result(4, tracked(2), name="a\nb.png"), None)
    assert capsys.readouterr().out.splitlines() == [
        "    0.00 s  person 1  anger  (75%, confidence 0.50)",
        "    0.20 s  person 1  anger -> unsure  (75%, confidence 0.50)",
        "    0.30 s  person 1  unsure -> fear  (75%, confidence 0.50)",
        "a\\nb.png  person 2  anger  (75%, confidence 0.50)",
    ]


def test_people_who_left_long_ago_are_forgotten(capsys):
    changes = LabelChanges()
    changes.write(result(0, tracked(1), tracked(2)), None)
    for track in range(3, 260):
        changes.write(result(track, tracked(track), tracked(2)), None)
    capsys.readouterr()
    changes.write(result(300, tracked(1), tracked(2)), None)
    (line,) = capsys.readouterr().out.splitlines()
    assert "person 1  anger" in line


def test_a_reader_that_goes_ends_the_run(monkeypatch):
    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=gone))
    with pytest.raises(SinkClosed):
        LabelChanges().write(result(0, tracked(1)), None)


@pytest.mark.parametrize(("frames", "counts"), [(20, True), (0, False)])
def test_progress_on_a_terminal(frames, counts):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    source = SimpleNamespace(frames=frames)
    with run_progress(console, source, as_json=False) as advance:
        advance(result(4, tracked(1)), 2)
        advance(replace(result(5), fps=1.0), 3)  # too soon to be drawn
    shown = screen.getvalue()
    assert "waiting for the first frame" in shown
    assert "29.7 fps, 12 ms, 1 face, 2 dropped" in shown
    assert ("5/20" in shown) == counts
    assert "3 dropped" not in shown


def test_no_progress_elsewhere():
    text = io.StringIO()
    with run_progress(Console(file=text), SimpleNamespace(frames=3), as_json=False) as advance:
        advance(result(0), 0)
    assert text.getvalue() == ""


def summary(source: object, dropped: int = 0) -> list[str]:
    text = io.StringIO()
    with Telemetry() as telemetry:
        say_summary(Console(file=text, width=200), telemetry, SimpleNamespace(dropped=dropped), source)
    return text.getvalue().splitlines()


def test_each_problem_of_a_source_has_a_line():
    usual = len(summary(SimpleNamespace(counts=SourceCounts())))
    counts = SourceCounts(missing=2, unreadable=1, reconnects=1, resolution_changes=3)
    assert summary(SimpleNamespace(counts=counts), 5)[usual:] == [
        "5 frames dropped, since labelling was slower than the source",
        "2 announced frames missing at the end of the file: is it complete?",
        "1 frame skipped, since unreadable",
        "1 time the source was lost and opened again",
        "3 times the size of the frames changed",
    ]


def test_unreadable_images_are_named_and_other_files_counted(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for number in range(6):
        (tmp_path / f"bad{number}.png").write_bytes(b"nothing")
    (tmp_path / "clip.mp4").write_bytes(b"")
    source = open_source(str(tmp_path))
    while source.read() is not None:
        pass
    *_, skipped, left_out = summary(source)
    names = ", ".join(str(tmp_path / f"bad{number}.png") for number in range(5))
    assert skipped == f"6 images skipped, since unreadable: {names}, ..."
    assert ".mp4" in left_out
