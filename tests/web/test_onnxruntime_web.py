"""The npm package: by a client of npm that is not the real one, and from folders."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.web import onnxruntime_web
from edgefel.web.onnxruntime_web import PACKAGE, VERSION, WASM_PARTS, WEBGPU_PARTS, Part, open_package

CONTENT = b"export default 1;\n"
PART = Part("ort.mjs", hashlib.sha256(CONTENT).hexdigest())


def archive(content: bytes = CONTENT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as opened:
        info = tarfile.TarInfo(f"package/dist/{PART.source}")
        info.size = len(content)
        opened.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an `npm` that gives archive.tgz in it, or fails with stderr.txt in it, and writes asked.txt."""
    place = tmp_path / "npm folder"
    place.mkdir()
    script = place / "npm"
    script.write_text(
        f"""#!/bin/sh
echo "$PWD" "$@" > '{place}/asked.txt'
if [ -f '{place}/stderr.txt' ]; then cat '{place}/stderr.txt' >&2; exit 1; fi
while [ "$1" != --pack-destination ]; do shift; done
cp '{place}/archive.tgz' "$2/{PACKAGE}-{VERSION}.tgz"
"""
    )
    script.chmod(0o755)
    (place / "archive.tgz").write_bytes(archive())
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    digest = base64.b64encode(hashlib.sha512((place / "archive.tgz").read_bytes()).digest()).decode()
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", f"sha512-{digest}")
    return place


def test_npm_gives_the_package_and_runs_no_script(npm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.json").write_text("{}")
    said: list[str] = []
    with open_package(None, said.append) as part_of:
        assert part_of(PART) == CONTENT
    assert said == [f"downloading {PACKAGE} {VERSION} by npm (33 MB, MIT licence)"]
    asked = (npm / "asked.txt").read_text().split()
    assert asked[1:3] == ["pack", f"{PACKAGE}@{VERSION}"]
    assert {"--ignore-scripts", "--prefer-offline"} <= set(asked)
    # neither beside a project's settings, nor left behind
    assert asked[0] != str(tmp_path)
    assert not Path(asked[0]).exists()


def test_another_package_of_the_same_name_is_refused(npm):
    (npm / "archive.tgz").write_bytes(archive(b"something else"))
    with (
        pytest.raises(EdgefelError, match="npm gives another package than the known one"),
        open_package(None),
    ):
        pass


def test_without_a_network_the_error_says_what_to_do(npm):
    (npm / "stderr.txt").write_text(
        "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND\n"
        "npm error network request failed, reason: \x1b[1mno such host\nnpm error network Check your proxy.\n"
    )
    with pytest.raises(EdgefelError) as caught, open_package(None):
        pass
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert text.startswith(
        f"{PACKAGE} {VERSION} cannot be downloaded (code ENOTFOUND: network request failed"
    )
    assert text.endswith(f"unpack {PACKAGE} {VERSION} elsewhere and give it with --onnxruntime-web FOLDER")


def test_without_npm_the_error_names_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgefelError, match="there is no npm; install Node"), open_package(None):
        pass


@pytest.mark.parametrize("inner", ["dist", "package/dist", "."])
def test_an_unpacked_package_is_taken_from_its_folder(npm, tmp_path, inner):
    folder = tmp_path / "unpacked" / inner
    folder.mkdir(parents=True)
    (folder / PART.source).write_bytes(CONTENT)
    with open_package(tmp_path / "unpacked") as part_of:
        assert part_of(PART) == CONTENT
    assert not (npm / "asked.txt").exists()


def test_wrong_folders_are_refused(tmp_path):
    with (
        open_package(tmp_path / "none") as part_of,
        pytest.raises(EdgefelError, match="none: no such folder"),
    ):
        part_of(PART)
    with open_package(tmp_path) as part_of, pytest.raises(EdgefelError, match="has no dist/ort.mjs"):
        part_of(PART)
    (tmp_path / PART.source).write_bytes(CONTENT + b" ")
    with open_package(tmp_path) as part_of, pytest.raises(EdgefelError, match=r"ort\.mjs: is not that of"):
        part_of(PART)


def test_scripts_get_the_ending_that_every_server_knows():
    names = [part.name for part in WASM_PARTS + WEBGPU_PARTS]
    assert all(name.endswith((".js", ".wasm")) for name in names)
    assert len(set(names)) == 6


def test_the_pinned_package_is_the_one_that_npm_gives(package):
    """Fetched by the real npm, once per machine; its hash was compared there."""
    with open_package(package) as part_of:
        for part in WASM_PARTS + WEBGPU_PARTS:
            assert part_of(part)
