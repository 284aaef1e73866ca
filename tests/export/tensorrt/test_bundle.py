"""An engine is recorded in its bundle as a whole, or not at all; building is in tests/cli/test_engine.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.export.tensorrt.bundle import _install


def test_what_was_not_moved_yet_is_not_lost(tmp_path):
    """A failure before the last file was reached leaves that one."""
    folder, room = tmp_path / "bundle", tmp_path / "room"
    for place in (folder, room):
        place.mkdir()
    for name in ("a.engine", "a.layers.json"):
        (folder / name).write_text("old")
    (room / "a.engine").write_text("new")  # and no report: it cannot be moved
    with pytest.raises(OSError, match="No such file"):
        _install(folder, (room / "a.engine", room / "a.layers.json"), None, room)
    assert {name: (folder / name).read_text() for name in ("a.engine", "a.layers.json")} == {
        "a.engine": "old",
        "a.layers.json": "old",
    }


def test_an_interrupt_before_the_first_move_loses_nothing(tmp_path, monkeypatch):
    folder, room = tmp_path / "bundle", tmp_path / "room"
    for place in (folder, room):
        place.mkdir()
    (folder / "a.engine").write_text("old")
    (room / "a.engine").write_text("new")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _install(folder, (room / "a.engine",), None, room)
    assert (folder / "a.engine").read_text() == "old"
