"""SIGTERM and SIGHUP end a command as Ctrl-C does; what a dropped connection takes along, and what it does not."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from heeding import heed

from edgefel.signals import answered


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def errors_at_end(process: subprocess.Popen[str]) -> str:
    """What it printed; if it does not end, the test fails with where each of its threads is."""
    try:
        return process.communicate(timeout=120)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"it does not end:\n{process.communicate(timeout=60)[1]}")


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it did not get so far (exit code {process.returncode})")
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "line"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
def test_every_command_undoes_says_so_and_exits_with_128_and_the_number(tmp_path, number, line):
    faces = ["-m", "edgefel.cli.main", "data", "synth", "-o", tmp_path / "faces", "--count", 100_000]
    process = start(*faces, "--workers", 1, preexec_fn=heed)
    wait_for(lambda: list(tmp_path.glob(".*/*/images/*")), process)
    process.send_signal(number)
    errors = errors_at_end(process)
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1] == line
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


WAITS = """
import sys, time
from pathlib import Path
from edgefel import signals
try:
    with signals.answered():
        try:
            Path(sys.argv[1], "ready").touch()
            for _ in range(600):
                time.sleep(0.1)  # a signal just before a sleep does not shorten it
        finally:
            print("a progress bar", file=sys.stderr, flush=True)
            Path(sys.argv[1], "saved").touch()
except KeyboardInterrupt as stop:
    sys.exit(stop.code)
"""


def test_nohup_is_respected(tmp_path):
    process = start("-c", WAITS, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for((tmp_path / "ready").exists, process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    errors_at_end(process)
    assert process.returncode == 128 + signal.SIGTERM


def test_what_is_on_the_way_out_is_done_although_the_terminal_is_gone(tmp_path):
    pid, terminal = pty.fork()
    if not pid:
        heed()
        os.execv(sys.executable, [sys.executable, "-c", WAITS, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(terminal)  # as sshd does when the connection drops; the kernel sends SIGHUP
    _, status = os.waitpid(pid, 0)
    assert (tmp_path / "saved").exists()
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def in_a_process(code: str) -> None:
    """Code that sends signals to its own process, which must not be the one that runs the tests."""
    begin = "import signal\nfrom edgefel import signals\nfrom edgefel.signals import Interrupted, answered\n"
    process = start("-c", begin + code, preexec_fn=heed)
    errors = errors_at_end(process)
    assert process.returncode == 0, errors


def test_the_end_of_a_session_is_told_once():
    in_a_process("""
told = []
with answered(told.append):
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
        signal.raise_signal(number)
    assert told == [signal.SIGHUP]
    assert signals.received() == signal.SIGHUP
    signal.raise_signal(signal.SIGINT)  # a person
    assert told == [signal.SIGHUP, signal.SIGINT]
with answered(told.append):
    assert signals.received() is None
""")


def test_a_repeated_request_is_told_again_and_handlers_are_put_back():
    in_a_process("""
before = [signal.getsignal(number) for number in signals.ENDING]
told = []
with answered():
    with answered(told.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert told == [signal.SIGTERM, signal.SIGTERM]
    try:
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit("not raised")
    except Interrupted as stop:
        assert stop.code == 143
assert [signal.getsignal(number) for number in signals.ENDING] == before
""")


def test_an_interrupt_that_a_destructor_discards_is_repeated():
    in_a_process("""
import time
class Discards:
    def __del__(self):
        signal.raise_signal(signal.SIGHUP)
try:
    with answered():
        Discards()  # Python prints "Exception ignored in"
        for _ in range(600):
            time.sleep(0.1)
        raise SystemExit("not repeated")
except Interrupted as stop:
    assert stop.code == 129
""")


def test_an_interrupt_is_not_repeated_while_it_is_handled():
    in_a_process("""
import contextlib, time
@contextlib.contextmanager
def slow():
    try:
        yield
    finally:
        time.sleep(1.5)
        try:
            raise OSError
        except OSError:
            time.sleep(1.5)
        saved.append(True)
saved = []
try:
    with answered(), slow():
        signal.raise_signal(signal.SIGTERM)
except Interrupted:
    assert saved
with answered():
    time.sleep(1.5)  # the end of another command is not this one's
""")


def test_another_thread_leaves_handlers_alone():
    import threading

    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def body() -> None:
        with answered():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert inside == [before]


def test_a_terminal_that_lives_on_gets_the_last_line(tmp_path: Path) -> None:
    code = WAITS.replace("sys.exit(stop.code)", "print(stop, file=sys.stderr); sys.exit(stop.code)")
    pid, terminal = pty.fork()
    if not pid:
        heed()
        os.execv(sys.executable, [sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGHUP)
    said = b""
    while b"hung up" not in said:
        said += os.read(terminal, 4096)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    os.close(terminal)
    assert b"progress" not in said


def test_one_signal_asks_and_a_second_one_interrupts():
    in_a_process("""
from edgefel.signals import collected
for number in (signal.SIGINT, signal.SIGTERM):
    before = signal.getsignal(number)
    with collected() as received:
        assert not received
        signal.raise_signal(number)
        assert received == [number]
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("not interrupted")
    assert signal.getsignal(number) is before
""")
