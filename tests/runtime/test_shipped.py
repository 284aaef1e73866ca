"""The network that comes with edgefel: found in the package, copied where engines are built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edgefel
from edgefel.errors import EdgefelError
from edgefel.runtime import shipped as module
from edgefel.runtime.backends.choice import open_backend
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import bundle_for_engines, engine_command, find_shipped, shipped_bundle


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_its_place_is_in_the_package():
    assert Path(edgefel.__file__).parent / "networks" / module.NAME == module.FOLDER


def test_an_installation_without_one_says_what_to_give(none_shipped):
    assert find_shipped() is None
    for wanted in (shipped_bundle, bundle_for_engines):
        with pytest.raises(
            EdgefelError, match="holds no network; give BUNDLE, a folder of 'edgefel export'"
        ) as caught:
            wanted()
        assert "\n" not in str(caught.value)


def test_it_is_run_where_it_lies_and_nothing_is_written(shipped, tmp_path):
    before = contents(shipped)
    assert find_shipped() == shipped_bundle() == shipped
    with Session.open(shipped_bundle(), threads=1) as session:
        session.warm_up()
    assert contents(shipped) == before
    assert not (tmp_path / "cache" / "networks").exists()


def test_the_copy_for_engines_can_be_written_and_is_used_from_then_on(shipped):
    for path in (*shipped.iterdir(), shipped):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy = bundle_for_engines()
    assert contents(copy) == contents(shipped)
    assert {bool(path.stat().st_mode & 0o200) for path in (copy, *copy.iterdir())} == {True}
    (copy / "note.txt").touch()
    assert bundle_for_engines() == find_shipped() == copy
    assert (copy / "note.txt").exists()


def test_another_network_has_another_copy(shipped):
    old = bundle_for_engines()
    manifest = shipped / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"other"'))
    assert find_shipped() == shipped
    assert bundle_for_engines() != old
    assert read_manifest(shipped_bundle()).model.name == "other"


def test_without_a_home_folder_it_runs_and_gets_no_engines(shipped, monkeypatch):
    monkeypatch.delenv("EDGEFEL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert find_shipped() == shipped
    with pytest.raises(EdgefelError, match="no home folder .*; set EDGEFEL_CACHE to a folder"):
        bundle_for_engines()


def test_a_cache_folder_of_another_user_is_passed_over(shipped, monkeypatch):
    real = os.stat

    def stat(path, *arguments, **options):
        if str(path).startswith(os.environ["EDGEFEL_CACHE"]):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert find_shipped() == shipped


def test_the_command_that_builds_its_engines_names_no_folder(shipped, tmp_path):
    assert engine_command(shipped) == "edgefel engine"
    assert engine_command(bundle_for_engines()) == "edgefel engine"
    assert engine_command(tmp_path / "mine") == f"edgefel engine {tmp_path / 'mine'}"
    with pytest.raises(EdgefelError, match="build one on the device with: edgefel engine$"):
        open_backend(read_manifest(shipped), None, "tensorrt", 1, lambda model: None)
