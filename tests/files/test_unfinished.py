"""Folders that appear meanwhile, leftovers of killed processes, and crashes in the middle of a replacement."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.files import unfinished
from edgefel.files.write import atomic_file, atomic_folder, sole_user

# a process that writes and never ends by itself
_BUSY = """
import sys, time
from pathlib import Path
from edgefel.files.write import atomic_file, atomic_folder, sole_user
with {call} as place:
    Path(sys.argv[1], "ready").touch()
    time.sleep(600)
"""


@pytest.fixture(params=[True, False], ids=["renameat2", "two steps"])
def both_ways(request, monkeypatch):
    """Systems that exchange names in one step, and those that cannot."""
    if not request.param:
        monkeypatch.setattr(unfinished, "_renameat2", lambda *arguments: None)


def busy(folder: Path, call: str) -> subprocess.Popen[bytes]:
    """Runs `with CALL` in another process until it is inside."""
    flag = folder / "flags"
    flag.mkdir(exist_ok=True)
    (flag / "ready").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", _BUSY.format(call=call), str(flag)])
    deadline = time.monotonic() + 60
    while not (flag / "ready").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            kill(process)
            pytest.fail("the other process did not begin")
        time.sleep(0.01)
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "flags")


def test_a_folder_that_appeared_meanwhile_is_left_and_the_work_is_kept(tmp_path, both_ways):
    out = tmp_path / "out"
    for number in ("", "-2"):
        with pytest.raises(EdgefelError, match=rf"out: .*left as it is.*out\.finished{number}$"):  # noqa: SIM117
            with atomic_folder(out) as temporary:
                (temporary / "result").write_text(f"work{number}")
                out.mkdir(exist_ok=True)
                (out / "precious").write_text("mine")
        assert (tmp_path / f"out.finished{number}" / "result").read_text() == f"work{number}"
        assert names(out) == ["precious"]
        (out / "precious").unlink()
    assert names(tmp_path) == ["out", "out.finished", "out.finished-2"]


def test_an_empty_folder_that_appeared_meanwhile_is_filled(tmp_path, both_ways):
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "result").touch()
        (tmp_path / "out").mkdir()
    assert names(tmp_path / "out") == ["result"]


def test_a_file_that_took_the_folders_name_is_left(tmp_path, both_ways):
    with pytest.raises(EdgefelError, match=r"out\.finished$"), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "result").touch()
        (tmp_path / "out").write_text("mine")
    assert (tmp_path / "out").read_text() == "mine"
    assert names(tmp_path / "out.finished") == ["result"]


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "sub" / "precious").write_text("mine"),
        lambda out: (out / "old").write_text("edited"),
        lambda out: (out / "old").unlink(),
    ],
)
def test_a_replaced_folder_that_was_changed_meanwhile_is_left(tmp_path, both_ways, change):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "old").write_text("old")
    inode = out.stat().st_ino
    with pytest.raises(EdgefelError, match=r"left as it is.*out\.finished$"):  # noqa: SIM117
        with atomic_folder(out, replace=True) as temporary:
            (temporary / "result").touch()
            change(out)
    assert out.stat().st_ino == inode
    assert names(tmp_path / "out.finished") == ["result"]
    assert names(tmp_path) == ["out", "out.finished"]


def test_a_change_in_the_last_moment_before_the_exchange_is_seen_too(tmp_path, both_ways):
    out, new = tmp_path / "out", tmp_path / "new"
    out.mkdir()
    new.mkdir()
    asked: list[Path] = []

    def accept(old: Path) -> bool:
        asked.append(old)
        return len(asked) == 1

    assert not unfinished.replace_folder(new, out, accept)
    assert asked[0] == out
    assert asked[1] != out
    assert names(tmp_path) == ["new", "out"]


def test_a_replacement_that_is_interrupted_leaves_the_old_folder(tmp_path, both_ways):
    out, new = tmp_path / "out", tmp_path / "new"
    out.mkdir()
    (out / "old").touch()
    new.mkdir()

    def accept(old: Path) -> bool:
        if old != out:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        unfinished.replace_folder(new, out, accept)
    assert names(out) == ["old"]
    assert names(tmp_path) == ["new", "out"]


def test_a_folder_may_be_filled_by_another_atomic_folder(tmp_path):
    with atomic_folder(tmp_path / "out") as temporary:
        with atomic_folder(temporary) as inner:
            (inner / "result").touch()
        assert names(tmp_path)
    assert names(tmp_path / "out") == ["result"]
    assert names(tmp_path) == ["out"]


def test_a_replaced_folder_is_replaced(tmp_path, both_ways):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "old").touch()
    with atomic_folder(tmp_path / "out", replace=True) as temporary:
        (temporary / "result").touch()
    assert names(tmp_path / "out") == ["result"]
    assert names(tmp_path) == ["out"]


def test_a_crash_between_two_renames_brings_the_old_folder_back(tmp_path, monkeypatch):
    """Where names cannot be exchanged: the process is killed when the old one is away and the new one not there."""
    code = """
import os, signal, sys
from pathlib import Path
from edgefel.files import unfinished
from edgefel.files.write import atomic_folder
unfinished._renameat2 = lambda *arguments: None
rename = Path.rename
def dies(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
with atomic_folder(sys.argv[1], replace=True) as temporary:
    (temporary / "new").touch()
    Path.rename = dies
"""
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("mine")
    ended = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(EdgefelError, match="not empty"), atomic_folder(out):
        pass
    assert (out / "old").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_a_file_that_appeared_meanwhile_is_left_where_that_was_promised(tmp_path, both_ways):
    target = tmp_path / "edge.tar"
    with (
        pytest.raises(EdgefelError, match=r"left as it is.*edge\.finished\.tar$"),
        atomic_file(target, replace=False) as temporary,
    ):
        temporary.write_text("work")
        target.write_text("mine")
    assert target.read_text() == "mine"
    assert (tmp_path / "edge.finished.tar").read_text() == "work"
    with pytest.raises(EdgefelError, match="exists already"), atomic_file(target, replace=False):
        pass
    with atomic_file(tmp_path / "new", replace=False) as temporary:
        temporary.write_text("work")
    assert names(tmp_path) == ["edge.finished.tar", "edge.tar", "new"]


def test_files_without_hard_links_are_put_in_place_all_the_same(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(unfinished, "_renameat2", lambda *arguments: None)
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert not unfinished.rename_new(tmp_path / "a", tmp_path / "b")
    assert unfinished.rename_new(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "b").read_text() == "b"
    assert names(tmp_path) == ["b", "c"]


@pytest.mark.parametrize(
    ("call", "again"),
    [
        ("atomic_folder({!r})", atomic_folder),
        ("atomic_file({!r})", atomic_file),
    ],
)
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path, call, again):
    place = tmp_path / "place"
    place.mkdir()
    target = place / "out.txt"
    process = busy(tmp_path, call.format(str(target)))
    left = names(place)
    assert len(left) == 1
    kill(process)
    # neither an older program's, nor another machine's, nor a person's
    others = [".out.txt.abcdefgh.tmp", left[0].replace("edgefel-", "edgefel-0"), ".notes.tmp", "out.tmp"]
    for name in others:
        (place / name).touch()
    with again(target):
        pass
    assert names(place) == sorted([*others, "out.txt"])


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    processes = [
        busy(tmp_path, f"atomic_folder({str(place / 'folder')!r})"),
        busy(tmp_path, f"atomic_file({str(place / 'file')!r})"),
    ]
    try:
        before = names(place)
        assert len(before) == 2
        with atomic_file(place / "mine"):
            pass
        assert names(place) == sorted([*before, "mine"])
    finally:
        for process in processes:
            kill(process)


def test_two_processes_do_not_write_one_folder(tmp_path):
    target = tmp_path / "out"
    process = busy(tmp_path, f"atomic_folder({str(target)!r})")
    try:
        with (
            pytest.raises(EdgefelError, match="out: another process is writing there"),
            atomic_folder(target),
        ):
            pass
    finally:
        kill(process)
    with atomic_folder(target):
        pass
    assert names(tmp_path) == ["out"]


def test_without_locks_a_leftover_stays_and_does_no_harm(tmp_path, monkeypatch):
    """Such as folders on NFS: whether somebody still writes cannot be known."""
    target = tmp_path / "out"
    kill(busy(tmp_path, f"atomic_folder({str(target)!r})"))
    (left,) = names(tmp_path)
    monkeypatch.setattr(unfinished, "try_lock", lambda *arguments, **options: None)
    with atomic_folder(target) as temporary:
        (temporary / "result").touch()
    assert names(tmp_path) == [left, "out"]


def test_one_user_of_a_folder_at_a_time(tmp_path):
    folder = tmp_path / "run"
    process = busy(tmp_path, f"sole_user(Path({str(folder)!r}), '')")
    try:
        with pytest.raises(EdgefelError, match="taken"), sole_user(folder, "taken"):
            pass
        assert (folder / ".lock").exists()
    finally:
        kill(process)
    with sole_user(folder, "taken"):
        pass
    assert names(folder) == []


def test_what_a_link_names_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "result").touch()
    assert names(tmp_path / "disk" / "out") == ["result"]
    (tmp_path / "a.txt").symlink_to(tmp_path / "disk" / "a.txt")
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "disk" / "a.txt").read_text() == "x"
    assert (tmp_path / "a.txt").is_symlink()


def test_a_device_a_pipe_or_a_folder_is_no_place_for_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/null")):
        with pytest.raises(EdgefelError, match="is not a file"), atomic_file(place):
            pass
    assert names(tmp_path) == ["folder", "pipe"]


def test_the_current_folder_and_a_mounted_disk_are_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgefelError, match="is the current folder"), atomic_folder("."):
        pass
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    with pytest.raises(EdgefelError, match="is a mounted disk"), atomic_folder(tmp_path / "disk"):
        pass
    assert names(tmp_path) == ["disk"]


def test_a_replaced_file_keeps_its_permissions_and_names_may_be_long(tmp_path):
    private = tmp_path / "private"
    private.write_text("")
    private.chmod(0o600)
    with atomic_file(private) as temporary:
        temporary.write_text("x")
    assert private.stat().st_mode & 0o777 == 0o600
    long = tmp_path / ("n" * 250 + ".txt")
    with atomic_file(long) as temporary:
        temporary.write_text("x")
    with atomic_folder(tmp_path / ("é" * 127)) as temporary:
        (temporary / "x").touch()
    assert len(names(tmp_path)) == 3


def test_what_cannot_be_put_in_place_is_kept(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> bool:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    monkeypatch.setattr("edgefel.files.write.replace_folder", refuse)
    with pytest.raises(EdgefelError, match=r"cross-device.*out\.finished$"):  # noqa: SIM117
        with atomic_folder(tmp_path / "out", replace=True) as temporary:
            (temporary / "result").touch()
    assert names(tmp_path / "out.finished") == ["result"]
