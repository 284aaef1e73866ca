"""Files at addresses: a real S3 server on the loopback interface, read by range."""

from __future__ import annotations

import pytest
from runtime.bulk.sets import encoded, make_folder, network, rows, run, tar_bytes, tree

from edgefel.data.readers.tar_members import encoded_images
from edgefel.errors import EdgefelError
from edgefel.files.remote import is_address, joined, list_address, open_binary, read_binary
from edgefel.runtime.bulk.plan import plan_labelling

pytest.importorskip("s3fs", reason="no s3fs here; pip install 'edgefel[objects]'")


@pytest.fixture(scope="module")
def bucket():
    """A client of an empty bucket named faces, which s3fs reaches by the same variables as any program."""
    moto = pytest.importorskip("moto.server", reason="no moto here")
    boto3 = pytest.importorskip("boto3", reason="no boto3 here")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # no look at the files and the network service from which a machine of Amazon's gets its role
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3")
        client.create_bucket(Bucket="faces")
        yield client
    server.stop()


def put(client, folder, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket="faces", Key=key, Body=path.read_bytes())


def test_labels_are_those_of_a_local_folder(bucket, tmp_path):
    root = make_folder(tmp_path / "set", 9)
    (root / "shards").mkdir()
    (root / "shards/a.tar").write_bytes(tar_bytes(range(5)))
    (root / "shards/b.tar").write_bytes(tar_bytes(range(5))[:4000])
    put(bucket, root, "set")
    net = network(tmp_path)
    here = run(root, net, tmp_path / "here")
    there = run("s3://faces/set", net, tmp_path / "there")
    assert {**there, "source": ""} == {**here, "source": ""}
    files = tree(tmp_path / "here"), tree(tmp_path / "there")
    for one in files:
        del one["label.json"]  # the source is in it
    assert files[0] == files[1]


def test_a_manifest_may_lie_there_and_list_addresses(bucket, tmp_path):
    for name in ("m/1.png", "other/2.png"):
        bucket.put_object(Bucket="faces", Key=name, Body=encoded(1))
    text = b"path\n1.png\ns3://faces/other/2.png\ngone.png\n"
    bucket.put_object(Bucket="faces", Key="m/list.csv", Body=text)
    report = run("s3://faces/m/list.csv", network(tmp_path), tmp_path / "out")
    assert (report["images"], report["unreadable"]) == (3, 1)
    one, two, gone = rows(tmp_path / "out")
    assert one["p_fear"] == two["p_fear"]
    assert gone["error"].startswith("cannot be read (")


def test_shards_are_read_by_range(bucket, monkeypatch):
    """Of 40 MB only the first blocks are fetched for the first image."""
    import s3fs

    bucket.put_object(Bucket="faces", Key="large.tar", Body=tar_bytes([1]) + bytes(40 << 20))
    fetched, fetch = [], s3fs.S3File._fetch_range
    monkeypatch.setattr(
        s3fs.S3File, "_fetch_range", lambda self, a, b: fetched.append(b - a) or fetch(self, a, b)
    )
    with open_binary("s3://faces/large.tar") as stream:
        name, data = next(encoded_images(stream))
    assert (name, data) == ("001.png", encoded(1))
    assert 0 < sum(fetched) <= 17 << 20


def test_sizes_are_limited_and_what_is_missing_is_named(bucket):
    bucket.put_object(Bucket="faces", Key="ten", Body=b"0123456789")
    assert read_binary("s3://faces/ten", 10) == b"0123456789"
    with pytest.raises(OSError, match="has more than 0 MiB"):
        read_binary("s3://faces/ten", 9)
    with pytest.raises(OSError, match="does not exist"):
        read_binary("s3://faces/gone", 9)
    assert list_address("s3://faces/ten") == [("", 10)]
    with pytest.raises(EdgefelError, match="s3://faces/nothing: nothing is there"):
        plan_labelling("s3://faces/nothing")
    with pytest.raises(EdgefelError, match="s3://no-such-bucket/x: "):
        plan_labelling("s3://no-such-bucket/x")
    with pytest.raises(EdgefelError, match="nope://x"):
        list_address("nope://x")


def test_names_are_joined_as_places_need():
    assert is_address("s3://b/x")
    assert not is_address("/b/x")
    assert joined("s3://b/x/", "y.png") == "s3://b/x/y.png"
    assert joined("s3://b/x", "gs://c/y.png") == "gs://c/y.png"
    assert joined("/b", "c/y.png") == "/b/c/y.png"
    assert joined("/b", "/c/y.png") == "/c/y.png"


def test_local_files_need_no_package(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert read_binary(str(tmp_path / "x"), 3) == b"abc"
    with open_binary(str(tmp_path / "x")) as stream:
        stream.seek(1)
        assert stream.read(1) == b"b"
