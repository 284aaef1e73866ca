"""An object store on the loopback interface: moto's server of S3, one for all tests of a process."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

_numbers = itertools.count()


class Bucket:
    """An empty bucket. client: boto3's, for what the methods lack."""

    def __init__(self, client: Any) -> None:
        self.client, self.name = client, f"faces-{next(_numbers)}"
        client.create_bucket(Bucket=self.name)

    def address(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}" if key else f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def upload(self, folder: Path, prefix: str) -> str:
        """Puts the files of a folder there; the address of the copy."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.address(prefix)


@pytest.fixture(scope="session")
def object_store():
    """The address of the server."""
    pytest.importorskip("s3fs", reason="no s3fs here; pip install 'edgefel[objects]'")
    moto = pytest.importorskip("moto.server", reason="no moto here")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store, monkeypatch):
    """A Bucket, which s3fs reaches by the same variables as any program."""
    boto3 = pytest.importorskip("boto3", reason="no boto3 here")
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # no look at the files and the network service from which a machine of Amazon's gets its role
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Bucket(boto3.client("s3"))
