"""The journal of unfinished work; tests/data/preparing/test_journal.py and tests/runtime/bulk test its use."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.files.resumable import (
    JOURNAL,
    JournalFile,
    check_outside,
    discard,
    partial_folder,
    put_in_place,
    sweep_finished,
)

KEY = {"options": {"size": 3}, "data": {"images": (1, 2)}}


def opened(path, key=KEY, version=1):
    return JournalFile.open(path, "test", version, key)


def test_lines_are_found_again_without_an_incomplete_one(tmp_path):
    path = tmp_path / "journal"
    with opened(path) as journal:
        assert journal.lines == []
        journal.append(b"one\n")
        journal.append(b"two\n")
    path.write_bytes(path.read_bytes()[:-2])
    with opened(path) as journal:
        assert journal.lines == [b"one"]
        journal.append(b"three\n")
    with opened(path) as journal:
        assert journal.lines == [b"one", b"three"]


def test_other_work_and_a_second_run_are_refused(tmp_path):
    path = tmp_path / "journal"
    with (
        opened(path),
        pytest.raises(EdgefelError, match="another run is working there"),
        opened(path),
    ):
        pass
    with (
        pytest.raises(EdgefelError, match="with size 3, not 4"),
        opened(path, {"options": {"size": 4}, "data": KEY["data"]}),
    ):
        pass
    with pytest.raises(EdgefelError, match="is no journal of this version"), opened(path, version=2):
        pass
    path.unlink()
    path.mkdir()
    with pytest.raises(EdgefelError, match="is a folder, not a regular file; begin anew"), opened(path):
        pass


def test_results_are_put_in_place_and_what_is_left_is_swept(tmp_path):
    output = tmp_path / "out"
    work = partial_folder(output)
    assert work == tmp_path / ".out.partial"
    (work / "results").mkdir(parents=True)
    (work / "results/a").write_text("a")
    with opened(work / JOURNAL):
        pass
    sweep_finished(work, ("results",))
    assert work.is_dir()
    put_in_place(work, "results", output)
    assert (output / "a").read_text() == "a"
    sweep_finished(work, ("results",))
    assert not work.exists()


def test_only_work_is_discarded(tmp_path):
    work = tmp_path / ".out.partial"
    work.mkdir()
    (work / "precious").touch()
    with pytest.raises(EdgefelError, match="it is not this command's"):
        discard(work)
    with opened(work / JOURNAL), pytest.raises(EdgefelError, match="another run"):
        discard(work)
    discard(work)
    assert not work.exists()


def test_an_output_in_the_data_is_refused(tmp_path):
    with pytest.raises(EdgefelError, match="lies in the data set"):
        check_outside(tmp_path / "a/b", tmp_path)
    check_outside(tmp_path / "b", tmp_path / "a")
