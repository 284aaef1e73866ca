"""Worker processes end with the process that they work for, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.workers import in_threads, usable_cores, worker_pool

POOL = """
import sys, time
sys.path.insert(0, sys.argv[1])
from edgefel.workers import worker_pool
from tasks import enter
if __name__ == "__main__":
    with worker_pool(2) as pool:
        list(pool.map(enter, [sys.argv[1]] * 2))
        time.sleep(600)
"""
# each of two workers writes its number, and waits for the other to do so
TASKS = """
import os, time
from pathlib import Path
def enter(folder):
    Path(folder, f"{os.getpid()}.worker").touch()
    while len(list(Path(folder).glob("*.worker"))) < 2:
        time.sleep(0.01)
"""


def alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_idle_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "pool.py").write_text(POOL)
    process = subprocess.Popen([sys.executable, str(tmp_path / "pool.py"), str(tmp_path)])
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.worker"))) < 2:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("the workers did not begin")
        time.sleep(0.01)
    workers = [int(path.stem) for path in tmp_path.glob("*.worker")]
    assert all(alive(number) for number in workers)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(alive(number) for number in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_leave_ctrl_c_and_a_hang_up_to_their_parent():
    with worker_pool(1) as pool:
        handlers = [pool.submit(signal.getsignal, number) for number in (signal.SIGINT, signal.SIGHUP)]
        assert [handler.result() for handler in handlers] == [signal.SIG_IGN] * 2


def test_a_worker_that_is_killed_is_one_line():
    with pytest.raises(EdgefelError, match="a worker process was killed"), worker_pool(1) as pool:
        pool.submit(os._exit, 1).result()


def test_one_of_fabrics_processes_ends_with_the_one_that_started_it(tmp_path):
    """Without it, this one would wait for the other for as long as half an hour."""
    code = """
import os, subprocess, sys, time
from edgefel.training.distributed import ending_together
with ending_together():
    if "LOCAL_RANK" not in os.environ:
        child = subprocess.Popen([sys.executable, __file__], env=os.environ | {"LOCAL_RANK": "1"})
        print(child.pid, flush=True)
print(os.environ.get("EDGEFEL_LAUNCHER"), flush=True)
time.sleep(600)
"""
    (tmp_path / "rank.py").write_text(code)
    process = subprocess.Popen([sys.executable, str(tmp_path / "rank.py")], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    # neither passes it on to what it starts later
    assert [process.stdout.readline() for _ in range(2)] == ["None\n"] * 2
    assert alive(child)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_give_results_in_order(workers):
    assert list(in_threads(lambda n: n * n, range(50), workers, ahead=2)) == [n * n for n in range(50)]


def test_threads_are_only_so_far_ahead_and_stop_when_the_iterator_is_closed():
    begun: list[int] = []
    stopped: list[bool] = []
    results = in_threads(begun.append, range(1000), 2, ahead=3, stop=lambda: stopped.append(True))
    next(results)
    assert not stopped
    results.close()
    assert len(begun) <= 2 * 3 + 1
    assert stopped == [True]


def test_an_error_in_a_thread_reaches_the_caller():
    def fail(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    results = in_threads(fail, range(100), 2, ahead=2)
    with pytest.raises(ValueError, match="seven"):
        list(results)


def test_usable_cores_are_those_of_the_process():
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0))
    assert usable_cores() >= 1
