"""Where caches lie, by environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("EDGEFEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_it_lies_in_the_home_folder_and_is_made(home):
    assert cache_folder("engines") == home / ".cache" / "edgefel" / "engines"
    assert (home / ".cache" / "edgefel" / "engines").is_dir()


def test_xdg_cache_home_is_respected_unless_it_is_relative(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder("engines") == home / "xdg" / "edgefel" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_folder("engines") == home / ".cache" / "edgefel" / "engines"


def test_the_own_variable_wins(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    monkeypatch.setenv("EDGEFEL_CACHE", "~/own")
    assert cache_folder("calibration") == home / "own" / "calibration"


def test_a_folder_that_cannot_be_made_is_one_line(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("EDGEFEL_CACHE", str(home / "file"))
    with pytest.raises(EdgefelError, match="cannot make the cache folder .*; set EDGEFEL_CACHE") as caught:
        cache_folder("engines")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_only_looked_for_is_not_made(home):
    assert cache_folder("networks", make=False) == home / ".cache" / "edgefel" / "networks"
    assert list(home.iterdir()) == []
