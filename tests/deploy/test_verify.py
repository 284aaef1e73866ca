"""`verify` finds what is damaged, and never unpacks what an archive says."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.deploy.verify import verify
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest

OPTIONS = DeployOptions(without_kernels=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", ("fp32", "fp16"))


@pytest.fixture(scope="module")
def packed(bundle, tmp_path_factory) -> Path:
    """A folder with edge.tar and the folder edge."""
    place = tmp_path_factory.mktemp("packed")
    for name in ("edge.tar", "edge"):
        write_deploy_folder(bundle, place / name, OPTIONS)
    return place


@pytest.fixture
def archive(packed, tmp_path) -> Path:
    return Path(shutil.copy(packed / "edge.tar", tmp_path))


@pytest.fixture
def folder(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed / "edge", tmp_path / "edge"))


def rewrite(archive: Path, change) -> None:
    """Puts what `change` makes of (TarInfo, bytes) into the archive again; None leaves a member out."""
    with tarfile.open(archive) as tar:
        members = [
            (member, tar.extractfile(member).read() if member.isfile() else b"")
            for member in tar.getmembers()
        ]
    with tarfile.open(archive, "w") as tar:
        for pair in members:
            changed = change(*pair)
            if changed is not None:
                info, data = changed
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("name", ["edge.tar", "edge.tgz"])
def test_a_whole_archive(bundle, tmp_path, name):
    deployed = write_deploy_folder(bundle, tmp_path / name, OPTIONS)
    found = verify(tmp_path / name)
    assert (found.files, found.extra, found.engines) == (len(deployed.files) - 1, 0, False)
    assert found.bytes == sum(file.size for file in deployed.files[:-1])
    assert found.header["precisions"] == ["fp32", "fp16"]


def test_a_changed_byte_is_found(archive):
    def change(info, data):
        return info, b"X" + data[1:] if info.name.endswith("labels.txt") else data

    rewrite(archive, change)
    with pytest.raises(EdgefelError, match=r"1 changed \(model/labels\.txt\); copy it again"):
        verify(archive)


def test_a_missing_and_a_foreign_file_are_found(archive):
    def change(info, data):
        if info.name.endswith("run.sh"):
            info.name = "edge/walk.sh"
        return info, data

    rewrite(archive, change)
    with pytest.raises(EdgefelError, match=r"1 missing \(run\.sh\); 1 not in the index \(walk\.sh\)"):
        verify(archive)


@pytest.mark.parametrize("name", ["edge.tar", "edge.tar.gz"])
def test_an_archive_cut_short(bundle, tmp_path, name):
    write_deploy_folder(bundle, tmp_path / name, OPTIONS)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgefelError, match="copy it again"):
        verify(tmp_path / name)


def test_damaged_compressed_data(bundle, tmp_path):
    write_deploy_folder(bundle, tmp_path / "edge.tgz", OPTIONS)
    data = bytearray((tmp_path / "edge.tgz").read_bytes())
    data[len(data) // 3] ^= 0xFF
    (tmp_path / "edge.tgz").write_bytes(data)
    with pytest.raises(EdgefelError, match=r"edge\.tgz.*copy it again"):
        verify(tmp_path / "edge.tgz")


@pytest.mark.parametrize("name", ["edge/../../evil", "/etc/evil", "edge/./run.sh"])
def test_members_outside_the_folder_are_refused(archive, name):
    def change(info, data):
        if info.name.endswith("run.sh"):
            info.name = name
        return info, data

    rewrite(archive, change)
    with pytest.raises(EdgefelError, match="is no plain file inside the folder; do not unpack it"):
        verify(archive)


def test_links_are_refused(archive):
    def change(info, data):
        if info.name.endswith("run.sh"):
            info.type, info.linkname, data = tarfile.SYMTYPE, "/etc/passwd", b""
        return info, data

    rewrite(archive, change)
    with pytest.raises(EdgefelError, match="is no plain file inside the folder"):
        verify(archive)


@pytest.mark.parametrize("name", ["run.sh", "model", "index.json"])
def test_links_in_a_folder_are_refused(folder, tmp_path, name):
    """What lies behind may be changed after it was looked at."""
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgefelError, match=r"is a link.*; copy the folder again"):
        verify(folder)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.LNKTYPE])
def test_special_members_are_refused(archive, kind):
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("edge/model/more")
        info.type, info.linkname = kind, "edge/run.sh"
        tar.addfile(info)
    with pytest.raises(EdgefelError, match="is no plain file inside the folder"):
        verify(archive)


def test_an_archive_that_would_fill_the_disk_is_refused_unread(archive, monkeypatch):
    """Terabytes of zeros are megabytes when they are compressed, and nothing at all as a sparse member."""
    read = []
    monkeypatch.setattr(tarfile.TarFile, "extractfile", lambda tar, member: read.append(member))
    bomb = archive.with_name("bomb.tar")
    info = tarfile.TarInfo("edge/zeros")
    info.size = 1 << 42
    bomb.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(EdgefelError, match=r"unpacks to more than 1 GB; do not unpack it"):
        verify(bomb)
    sparse = tarfile.TarInfo("edge/zeros")
    sparse.pax_headers = {"GNU.sparse.size": str(1 << 42), "GNU.sparse.map": "0,0"}
    bomb.write_bytes(sparse.tobuf(format=tarfile.PAX_FORMAT) + bytes(1024))
    with pytest.raises(EdgefelError, match="do not unpack it"):
        verify(bomb)
    assert read == []


def test_an_index_that_nests_without_end(folder):
    (folder / "index.json").write_text("[" * 100_000)
    with pytest.raises(EdgefelError, match="is not of 'edgefel pack', or damaged"):
        verify(folder)


def test_a_member_twice_is_refused(archive):
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("edge/run.sh")
        tar.addfile(info, io.BytesIO(b""))
    with pytest.raises(EdgefelError, match="occurs twice"):
        verify(archive)


def test_what_is_not_ours(tmp_path, bundle):
    (tmp_path / "x.tar").write_text("no archive")
    with pytest.raises(EdgefelError, match=r"is no archive, or cut short \([^\n]*\); copy it again$"):
        verify(tmp_path / "x.tar")
    with pytest.raises(EdgefelError, match="no such file or folder"):
        verify(tmp_path / "absent.tar")
    with pytest.raises(EdgefelError, match=r"has no index\.json"):
        verify(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not of 'edgefel pack'"),
        ({"version": 99}, "version 99, this edgefel reads 1"),
        ({"files": {}}, "list of files in index.json is damaged"),
        ({"files": {"../x": {"sha256": "0", "bytes": 1}}}, "list of files in index.json is damaged"),
        ({"files": ["run.sh"]}, "list of files in index.json is damaged"),
    ],
)
def test_a_damaged_index(folder, change, message):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | change))
    with pytest.raises(EdgefelError, match=message):
        verify(folder)


def test_a_folder_that_was_installed_and_has_engines(folder):
    """What `install.sh` makes: an environment, an engine, and its entry in the manifest."""
    (folder / "venv").mkdir()
    (folder / "venv" / "pyvenv.cfg").write_text("")
    (folder / "model" / "model.fp16.engine").write_bytes(b"engine")
    manifest = read_manifest(folder / "model")
    engine = describe_file(folder / "model" / "model.fp16.engine", kind="engine", precision="fp16")
    write_manifest(folder / "model", manifest.with_file(engine))
    found = verify(folder)
    assert (found.engines, found.extra) == (True, 2)


def test_a_manifest_with_other_changes_is_a_changed_file(folder):
    path = folder / "model" / "manifest.json"
    path.write_text(path.read_text().replace('"happiness"', '"anger2"'))
    with pytest.raises(EdgefelError, match=r"1 changed \(model/manifest\.json\)"):
        verify(folder)
    shutil.rmtree(folder / "wheels")
    with pytest.raises(EdgefelError, match=r"1 missing \(wheels/edgefel"):
        verify(folder)
