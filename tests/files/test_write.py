"""Files and folders are whole or absent."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import atomic_file, atomic_folder, lock, sha256, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_written_file_replaces_the_old_one_and_is_readable_by_others(tmp_path):
    target = tmp_path / "new" / "a.png"
    with atomic_file(target) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) & 0o444


def test_a_failed_folder_is_absent(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "half").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_refused_or_replaced(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    with atomic_folder(target) as temporary:  # an empty folder is fine
        (temporary / "a").write_text("1")
    with pytest.raises(EdgefelError, match="not empty"), atomic_folder(target):
        pass
    with atomic_folder(target, replace=True) as temporary:
        (temporary / "b").write_text("2")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgefelError, match="not a folder"), atomic_folder(tmp_path / "file"):
        pass


def test_json_round_trip_and_errors(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, "é"]})
    assert read_json(tmp_path / "a.json") == {"x": [1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(EdgefelError, match=r"c.json: not valid JSON"):
        read_json(tmp_path / "c.json")
    with pytest.raises(EdgefelError, match="no such file"):
        read_json(tmp_path / "d.json")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_a_locked_file_keeps_another_process_out_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "held"
    code = (
        f"from edgefel.files.write import lock; held = open({str(path)!r}, 'a'); print(lock(held.fileno()))"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()

    with path.open("a") as held:
        assert lock(held.fileno())
        assert other() == "False"
    assert other() == "True"
