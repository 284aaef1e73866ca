"""Result rows: every kind of broken line, good rows beside them, and files that are only appended to."""

from __future__ import annotations

import errno
import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bench_rows import environment, example_rows, row, timing

from edgefel.bench.results import KINDS, SCHEMA, append_results, make_row, read_results
from edgefel.errors import EdgefelError

SUBJECT = {"model": "arbex", "precision": "int8", "backend": "openvino", "batch": 1, "threads": 2}


def changed(**how) -> dict:
    """A good row as a dictionary, with other values; None leaves a field out."""
    values = {**row().to_dict(), **how}
    return {name: value for name, value in values.items() if value is not None}


def latency(**how) -> dict:
    """A good latency row with another timing."""
    return changed(kind="latency", metrics={"latency_ms": {**timing(5.0), **how}})


def without(name: str) -> dict:
    values = latency()
    del values["metrics"]["latency_ms"][name]
    return values


RATIO = {"value": 2.0, "interval": [1.9, 2.1]}
BROKEN = {
    "{": "not a line of JSON; was the file cut short?",
    '{"schema": NaN}': "not a line of JSON; was the file cut short?",
    "\ufffd\x00": "not a line of JSON; was the file cut short?",
    "[1, 2]": "not a result row: it has no schema",
    "3": "not a result row: it has no schema",
    json.dumps(changed(schema=None)): "not a result row: it has no schema",
    json.dumps(changed(schema=2)): "of schema 2, this edgefel reads 1; update edgefel to read it",
    json.dumps(changed(schema=0)): "of schema 0, this edgefel reads 1; measure it again",
    json.dumps(changed(schema="1")): "of schema '1', this edgefel reads 1; measure it again",
    json.dumps(changed(kind=None, command=None)): "lacks kind",
    json.dumps(changed(colour="red", b=1)): "has the unknown b, colour",
    json.dumps(changed(subject=["arbex"])): "subject is a list, not an object",
    json.dumps(changed(notes="unstable")): 'notes is "unstable", not a list',
    json.dumps(changed(time=3)): "time is 3, not text",
    json.dumps(changed(kind="speed")): f"of the unknown kind 'speed'; known: {', '.join(KINDS)}",
    json.dumps(changed(environment={"cpu": "x"})): "lacks environment.device",
    json.dumps(changed(environment={"device": None})): "environment.device is null, not text",
    json.dumps(changed(metrics={"latency_ms": timing(5.0)})): "compare without ratio",
    json.dumps(changed(kind="throughput", metrics={})): "throughput without images_per_s, latency_ms",
    json.dumps(
        changed(kind="train", metrics={"images_per_s": "3"})
    ): 'images_per_s: the whole is "3", not a number',
    json.dumps(
        changed(kind="train", metrics={"images_per_s": True})
    ): "images_per_s: the whole is true, not a number",
    json.dumps(
        changed(kind="roofline", metrics={"floor_ms": -1})
    ): "floor_ms: -1 is no finite number of at least 0",
    json.dumps(
        changed(kind="latency", metrics={"latency_ms": 5})
    ): "latency_ms: the whole is 5, not an object",
    json.dumps(without("p99")): "latency_ms: lacks p99",
    json.dumps(latency(mean=1e999)).replace("Infinity", "null"): "latency_ms: mean is null, not a number",
    json.dumps(latency(p50="5")): 'latency_ms: p50 is "5", not a number',
    json.dumps(without("p50_interval")): "latency_ms: lacks p50_interval",
    json.dumps(latency(p50_interval=[1])): "latency_ms: p50_interval is [1], no interval",
    json.dumps(latency(p50_interval=[1, -1])): "latency_ms: -1 is no finite number of at least 0",
    json.dumps(
        changed(metrics={"latency_ms": timing(5.0), "ratio": 2})
    ): "ratio: the whole is 2, not an object",
    json.dumps(changed(metrics={"latency_ms": timing(5.0), "ratio": {"value": 2}})): "ratio: lacks interval",
    json.dumps(changed(metrics={"latency_ms": timing(5.0), "ratio": {**RATIO, "value": None}})): (
        "ratio: value is null, not a number"
    ),
    json.dumps(changed(metrics={"latency_ms": timing(5.0), "ratio": RATIO, "a": 1})).replace(
        '"a": 1', '"a": 1e999'
    ): ("not a line of JSON; was the file cut short?"),
}


@pytest.mark.parametrize("line", list(BROKEN), ids=list(BROKEN.values()))
def test_every_broken_line_is_named_and_the_good_rows_load(line, tmp_path):
    good = json.dumps(row().to_dict())
    path = tmp_path / "results.jsonl"
    path.write_text(f"{good}\n\n{line}\n{good}\n", encoding="utf-8")
    loaded = read_results(path)
    assert loaded.problems == (f"{path}, line 3: {BROKEN[line]}",)
    assert loaded.rows == (row(), row())


def test_bytes_that_are_no_text_are_one_broken_line(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xff\xfe\x80\n" + json.dumps(row().to_dict()).encode() + b"\n")
    loaded = read_results(path)
    assert len(loaded.rows) == 1
    assert loaded.problems == (f"{path}, line 1: not a line of JSON; was the file cut short?",)


def test_every_kind_comes_back_as_it_was(tmp_path):
    rows = example_rows()
    assert {one.kind for one in rows} == set(KINDS)
    append_results(tmp_path / "new" / "results.jsonl", rows)
    loaded = read_results(tmp_path / "new" / "results.jsonl")
    assert loaded.problems == ()
    assert [one.to_dict() for one in loaded.rows] == [one.to_dict() for one in rows]
    assert [one.key for one in loaded.rows] == [one.key for one in rows]


def test_a_row_of_now_says_when_and_by_what(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/edgefel", "bench", "latency", "my bundle"])
    made = make_row("latency", SUBJECT, {"latency_ms": timing(5.0)}, environment(), ["cold"])
    assert made.command == "edgefel bench latency 'my bundle'"
    assert made.time.endswith("+00:00")
    assert made.notes == ("cold",)
    assert made.to_dict()["schema"] == SCHEMA
    assert made.name == "arbex int8 openvino, batch 1, threads 2"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_would_not_be_read_is_not_made(value):
    with pytest.raises(ValueError, match="latency row: latency_ms: (nan|inf) is no finite number"):
        make_row("latency", SUBJECT, {"latency_ms": {**timing(5.0), "p50": value}}, environment())


def test_repetitions_have_one_key_whatever_the_order_and_the_device():
    turned = dict(reversed(SUBJECT.items()))
    assert row(subject=SUBJECT).key == row(subject=turned, device="another").key
    assert row(subject=SUBJECT).key != row("latency", SUBJECT).key
    assert row(subject=SUBJECT).key != row(subject={**SUBJECT, "threads": 1}).key


def test_rows_are_added_and_what_was_there_stays(tmp_path):
    path = tmp_path / "results.jsonl"
    append_results(path, [row()])
    before = path.read_bytes()
    append_results(path, [])
    assert path.read_bytes() == before
    append_results(path, [row(), row()])
    assert path.read_bytes().startswith(before)
    assert len(read_results(path).rows) == 3


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "results.jsonl"
    append_results(path, [row()])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:100])
    append_results(path, [row()])
    loaded = read_results(path)
    assert len(loaded.rows) == 2
    assert loaded.problems == (f"{path}, line 2: not a line of JSON; was the file cut short?",)
    assert path.read_bytes().startswith(whole + whole[:100])


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edgefel.bench.results import append_results, read_results
from edgefel.errors import EdgefelError
path = Path(sys.argv[1])
rows = read_results(path).rows * int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = path.stat().st_size + 1000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    append_results(path, rows)
except EdgefelError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit on file sizes")
@pytest.mark.parametrize("count", [1, 20])  # less than a stream's buffer holds, and more
def test_a_disk_that_fills_up_leaves_the_file_as_it_was(count, tmp_path):
    """A limit on the file's size stops the write in its middle, as a full disk does."""
    path = tmp_path / "results.jsonl"
    append_results(path, [row()])
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(path), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{path}: cannot be written: File too large; choose another place"
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_no_space_is_one_line():
    with pytest.raises(EdgefelError, match="/dev/full: cannot be written: .*; choose another place"):
        append_results(Path("/dev/full"), [row()])


def test_places_that_cannot_be_read_or_written_are_one_line(tmp_path):
    with pytest.raises(EdgefelError, match="missing.jsonl: no such file"):
        read_results(tmp_path / "missing.jsonl")
    with pytest.raises(EdgefelError, match=r"cannot be read \(is a folder"):
        read_results(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        EdgefelError,
        match=rf"cannot be written: ({errno.errorcode[errno.ENOTDIR]}|Not a directory|File exists)",
    ):
        append_results(tmp_path / "file" / "results.jsonl", [row()])
