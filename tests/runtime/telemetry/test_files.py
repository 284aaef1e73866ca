"""`--metrics FILE`: whole lines, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.telemetry.files import MetricsFile
from edgefel.runtime.telemetry.telemetry import Telemetry


def lines(path) -> list[dict]:
    content = path.read_text()
    assert content.endswith("\n")
    return [json.loads(line) for line in content.splitlines()]


def test_a_line_at_every_interval_and_one_at_the_end(tmp_path):
    telemetry = Telemetry()
    path = tmp_path / "new" / "metrics.jsonl"
    with MetricsFile(path, telemetry, interval=0.02) as metrics:
        telemetry.count("frames")
        deadline = time.monotonic() + 5
        while len(path.read_text().splitlines()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        telemetry.count("frames", 41)
    metrics.close()
    found = lines(path)
    assert len(found) >= 4
    assert found[-1]["counters"] == {"frames": 42}
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    assert metrics.problem is None


def test_a_second_run_is_appended(tmp_path):
    for _ in range(2):
        with MetricsFile(tmp_path / "metrics", Telemetry(), interval=60):
            pass
    assert len(lines(tmp_path / "metrics")) == 2


KILLED = """
import os, signal, sys
from edgefel.runtime.telemetry.files import MetricsFile
from edgefel.runtime.telemetry.telemetry import Telemetry
telemetry = Telemetry()
for number in range(200):
    telemetry.record(f"stage {number}", 0.001)
MetricsFile(sys.argv[1], telemetry, interval=0.001)
while os.path.getsize(sys.argv[1]) < 200_000: pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_whole_lines(tmp_path):
    path = tmp_path / "metrics"
    result = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert result.returncode == -9
    assert all(len(line["stages_ms"]) == 200 for line in lines(path))


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path):
    path = tmp_path / "metrics"
    with MetricsFile(path, Telemetry(), interval=60):
        pass
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    with MetricsFile(path, Telemetry(), interval=60):
        assert path.read_text() == whole
    assert len(lines(path)) == 2


@pytest.mark.parametrize("content", ['{"a": 1}', '{"a": 1}\n', "[1]\n", "7\n", "not JSON\n", "\x89PNG\n"])
def test_a_file_that_is_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(EdgefelError, match="holds something else than edgefel's metrics") as caught:
        MetricsFile(path, Telemetry())
    assert "\n" not in str(caught.value)
    assert path.read_text() == content


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        (".", "Is a directory"),
        ("file/metrics", "Not a directory|File exists"),
        ("pipe", "no regular"),
    ):
        with pytest.raises(EdgefelError, match=said):
            MetricsFile(tmp_path / name, Telemetry())


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from edgefel.runtime.telemetry.files import MetricsFile
from edgefel.runtime.telemetry.telemetry import Telemetry
metrics = MetricsFile(sys.argv[1], Telemetry(), interval=60)
for _ in range(9): metrics._write()
metrics.close()
print(metrics.problem)
"""


def test_a_full_disk_ends_the_file_and_not_the_stream(tmp_path):
    path = tmp_path / "metrics"
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert "metrics end there" in result.stdout
    assert 1 <= len(lines(path)) < 9


def test_an_interval_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be above 0"):
        MetricsFile(tmp_path / "metrics", Telemetry(), interval=0)
    assert not (tmp_path / "metrics").exists()


def test_two_runs_do_not_write_one_file(tmp_path):
    file = tmp_path / "m.jsonl"
    first = MetricsFile(file, Telemetry(), 60)
    with pytest.raises(EdgefelError, match="m.jsonl: another run is writing its metrics there"):
        MetricsFile(file, Telemetry(), 60)
    first.close()
    MetricsFile(file, Telemetry(), 60).close()
    assert len(file.read_text().splitlines()) == 2


def test_a_file_that_is_removed_is_told(tmp_path):
    metrics = MetricsFile(tmp_path / "m.jsonl", Telemetry(), 60)
    metrics.path.unlink()
    metrics.close()
    assert metrics.problem == f"{metrics.path}: was removed; metrics end there"
