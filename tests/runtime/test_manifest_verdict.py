"""Which files the runtime refuses: those that failed their comparison, and engines built from them."""

from __future__ import annotations

import dataclasses

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import BundleFile, read_manifest, write_manifest
from edgefel.runtime.session import Session

FAILED = {"verdict": "fail", "reasons": ["recall of fear falls by 9.0 points, limit 1.5", "second reason"]}


def mark(bundle, parity):
    manifest = read_manifest(bundle)
    marked = dataclasses.replace(manifest.files[0], parity=parity)
    write_manifest(bundle, manifest.with_file(marked))
    return read_manifest(bundle)


def test_a_failed_file_is_refused_in_one_line_that_says_why_and_what_to_do(bundle):
    mark(bundle, FAILED)
    with pytest.raises(EdgefelError) as caught:
        Session.open(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert "model.fp32.onnx: failed its comparison with PyTorch: recall of fear falls" in message
    assert "second reason" in message
    assert "Choose another precision, or pass --force (force=True)" in message
    with Session.open(bundle, force=True) as session:
        assert session.file.verdict == "fail"


@pytest.mark.parametrize(
    "parity", [None, {}, {"verdict": "pass"}, {"verdict": "warn", "reasons": ["few images"]}]
)
def test_other_files_open(bundle, parity):
    mark(bundle, parity)
    Session.open(bundle).close()


def test_an_unknown_verdict_is_no_permission(bundle):
    manifest = read_manifest(bundle)
    with pytest.raises(EdgefelError, match="verdict is 'Fail'; known are pass, warn, fail"):
        dataclasses.replace(manifest.files[0], parity={"verdict": "Fail"})


def test_an_engine_inherits_the_verdict_of_its_onnx_file(bundle):
    manifest = mark(bundle, FAILED)
    digest = "0" * 64

    def engine(**values):
        return BundleFile("model.fp32.engine", "engine", "fp32", digest, 7, **values)

    source = {"source": "model.fp32.onnx"}
    with pytest.raises(EdgefelError, match=r"fp32\.engine \(built from model\.fp32\.onnx\): failed"):
        manifest.check_verdict(engine(builder=source))
    manifest.check_verdict(engine())
    manifest.check_verdict(engine(builder={"source": "gone.onnx"}))
    # what was found of the engine itself counts for more
    manifest.check_verdict(engine(builder=source, parity={"verdict": "pass"}))
    assert mark(bundle, {"verdict": "warn"}).judged(engine(builder=source)).verdict == "warn"
