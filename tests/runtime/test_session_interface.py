"""Bundles that take bytes, and bundles with fewer outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_bundle import PREPROCESSING, rewritten, write_bundle

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import OUTPUT_NAMES, read_manifest
from edgefel.runtime.session import Session

NEEDED = ("probabilities", "confidence")


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8) for i in range(count)]


def test_bytes_in_give_the_same_predictions(tmp_path):
    plain, packed = write_bundle(tmp_path / "plain"), rewritten(tmp_path / "packed", uint8=True)
    with Session.open(plain, threads=1) as first, Session.open(packed, threads=1, max_batch=2) as second:
        second.warm_up()
        expected, actual = first(crops(5)), second(crops(5))
        for name in OUTPUT_NAMES:
            np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=name)
        assert second([]).logits.shape == (0, 7)
        again = second.run(PREPROCESSING.pixel_batch(crops(5)))
        np.testing.assert_array_equal(again.logits, actual.logits)


def test_a_bundle_that_takes_bytes_says_so(tmp_path):
    packed = rewritten(tmp_path / "packed", uint8=True)
    document = json.loads((packed / "manifest.json").read_text())
    assert document["input"] == {"name": "image", "dtype": "uint8", "shape": ["N", 14, 14, 3]}
    assert read_manifest(packed).input_type == "uint8"
    with (
        Session.open(packed) as session,
        pytest.raises(EdgefelError, match=r"expected uint8 \[N, 14, 14, 3\]"),
    ):
        session.run(PREPROCESSING.batch(crops(1)))


@pytest.mark.parametrize("outputs", [NEEDED, ("logits", *NEEDED)])
def test_fewer_outputs_are_none(tmp_path, outputs):
    whole, less = write_bundle(tmp_path / "whole"), rewritten(tmp_path / "less", outputs=outputs)
    with Session.open(whole, threads=1) as first, Session.open(less, threads=1, max_batch=2) as second:
        expected, actual = first(crops(5)), second(crops(5))
        assert second.manifest.outputs == outputs
        for name in OUTPUT_NAMES:
            if name in outputs:
                np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
            else:
                assert getattr(actual, name) is None
        empty = second([])
        assert empty.confidence.shape == (0,)
        assert empty.embedding is None


def test_a_file_without_an_output_that_the_manifest_promises(tmp_path):
    folder = rewritten(tmp_path / "less", outputs=NEEDED)
    document = json.loads((folder / "manifest.json").read_text())
    document["outputs"] = list(OUTPUT_NAMES)
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(
        EdgefelError, match="gives probabilities, confidence; the manifest's file takes image"
    ):
        Session.open(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": ["probabilities"]}, "expected some of .* probabilities and confidence among them"),
        ({"outputs": ["confidence", "probabilities"]}, "in this order"),
        ({"outputs": [*NEEDED, "age"]}, "outputs is .*'age'"),
        ({"input": {"name": "image", "dtype": "int8", "shape": ["N", 14, 14, 3]}}, "input dtype is 'int8'"),
        ({"input": {"name": "image", "dtype": "uint8", "shape": ["N", 3, 14, 14]}}, "input is .*, expected"),
        ({"input": {"name": "image"}}, "manifest: lacks input.dtype"),
    ],
)
def test_impossible_interfaces(tmp_path, changes, message):
    folder = write_bundle(tmp_path / "bundle")
    document = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EdgefelError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize("stride", [1, 2])
def test_bytes_are_what_the_normalised_batch_is_made_of(stride):
    preprocessing = Preprocessing(32, 28, stride)
    pixels, table = preprocessing.pixel_batch(crops(3)), preprocessing.normalisation_table()
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == (3, 28 // stride, 28 // stride, 3)
    looked_up = np.stack([table[c][pixels[..., c]] for c in range(3)], axis=1)
    np.testing.assert_array_equal(looked_up, preprocessing.batch(crops(3)))
