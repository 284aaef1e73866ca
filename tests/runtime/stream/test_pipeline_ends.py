"""How a stream ends: by its source, an error, a limit, a signal, or who iterates over it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import streams
from heeding import heed
from streams import ListSource, SquareDetector, moving
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.session import Session
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry


def test_a_source_that_dies_gives_its_last_frames_first(session):
    source = ListSource(moving(10), error=EdgefelError("camera 0: gone; plug it in"))
    seen = []
    with pytest.raises(EdgefelError, match="camera 0: gone"):
        for result in Stream(source, SquareDetector(), session):
            seen.append(result.frame.index)
    assert seen == list(range(10))


@pytest.mark.parametrize("broken", ["detector", "session"])
def test_an_error_in_a_stage_ends_the_run(session, broken, monkeypatch):
    def fail(*arguments):
        raise EdgefelError(f"the {broken} is broken")

    if broken == "session":
        monkeypatch.setattr(Session, "__call__", fail)
    detector = fail if broken == "detector" else SquareDetector()
    source = ListSource(moving(100))
    with pytest.raises(EdgefelError, match=f"the {broken} is broken"):
        list(Stream(source, detector, session))
    assert source.closed


def test_leaving_the_loop_ends_everything(session):
    source = ListSource(moving(50) * 20)
    for result in Stream(source, SquareDetector(), session):
        if result.frame.index == 5:
            break
    del result
    assert source.closed


def test_stop_from_another_thread_gives_what_was_read(session):
    source = ListSource(moving(50) * 20, live=True, fps=200)
    stream = Stream(source, SquareDetector(), session, StreamOptions(policy="all"))
    threading.Timer(0.3, stream.stop).start()
    results = list(stream)
    assert 5 < len(results) < 1000


@pytest.mark.parametrize(("limit", "expected"), [({"frames": 7}, 7), ({"seconds": 0.5}, 15)])
def test_it_stops_where_it_is_told(session, limit, expected):
    results = list(Stream(ListSource(moving(50)), SquareDetector(), session, StreamOptions(**limit)))
    assert len(results) == expected


def test_a_stream_runs_once(session):
    stream = Stream(ListSource(moving(3)), SquareDetector(), session)
    assert len(list(stream)) == 3
    with pytest.raises(EdgefelError, match="a stream runs once"):
        list(stream)


def test_stop_before_the_first_frame_and_twice(session):
    source = ListSource(moving(100))
    stream = Stream(source, SquareDetector(), session)
    stream.stop()
    assert source.closed
    stream.stop()
    assert list(stream) == []


@pytest.mark.parametrize("ends_by", ["stop", "leaving"])
def test_a_signal_that_stops_while_the_source_is_closed_does_nothing(session, ends_by):
    """Its handler runs inside `close`, on the same thread: a second `close` would wait for the first's locks."""

    class Interrupted(ListSource):
        inside = 0

        def close(self) -> None:
            self.inside += 1
            assert self.inside == 1
            stream.stop()
            self.inside -= 1
            super().close()

    source = Interrupted(moving(100))
    stream = Stream(source, SquareDetector(), session)
    if ends_by == "stop":
        stream.stop()
    list(zip(range(3), stream, strict=False))
    assert source.closed


def test_ctrl_c_while_it_waits_for_a_frame(tmp_path):
    """Of a camera that sends nothing; the wait has no timeout of its own. The process is not that of the tests."""
    code = f"""
import sys, threading
sys.path.insert(0, {str(Path(streams.__file__).parent)!r})
from streams import ListSource, SquareDetector, scene
from edgefel.runtime.session import Session
from edgefel.runtime.stream.pipeline import Stream

source = ListSource([scene([])] * 2, live=True, fps=0.02)
with Session.open({str(write_bundle(tmp_path / "bundle"))!r}, backend="onnxruntime", threads=1) as session:
    try:
        for result in Stream(source, SquareDetector(), session):
            print("frame", result.frame.index, flush=True)  # the next one would come after 50 seconds
    except KeyboardInterrupt:
        print("closed", source.closed, "threads", threading.active_count())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=heed
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "frame 0\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=45)[0] == "closed True threads 1\n"
    assert process.returncode == 0


def test_a_thread_that_cannot_be_started_leaves_none_behind(session, monkeypatch):
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "infer":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    source = ListSource(moving(100))
    with pytest.raises(RuntimeError, match="can't start"):
        list(Stream(source, SquareDetector(), session))
    assert source.closed


def test_what_is_lost_is_counted_to_the_end(session):
    class Lossy(ListSource):
        def read(self):
            self.counts.unreadable += 1
            return super().read()

        def close(self) -> None:
            # a camera goes on until it is closed
            self.counts.overwritten += not self.closed
            super().close()

    telemetry = Telemetry()
    stream = Stream(Lossy(moving(3)), SquareDetector(), session, telemetry=telemetry)
    list(stream)
    snapshot = telemetry.snapshot()
    assert snapshot.counters == {
        "captured": 3,
        "inferences": 6,
        "frames": 3,
        "faces": 4,
        "cuts": 0,
        "dropped": 1,
        "unreadable": 4,
        "missing": 0,
        "reconnects": 0,
        "resolution changes": 0,
    }
    assert stream.dropped == 1
    assert snapshot.gauges == {"tracks": 2}
