"""Comparing the files of a bundle with PyTorch on a labelled set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgefel.bench.bundle import compare_bundle
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.runtime.session import Session


@pytest.fixture(scope="module")
def dataset(faces_folder):
    return open_dataset(faces_folder, split="test")


def test_every_file_is_compared_on_every_image(nano_checkpoint, nano_bundle, dataset):
    seen = []
    result = compare_bundle(
        nano_checkpoint,
        nano_bundle,
        dataset,
        threads=1,
        min_runs=2,
        max_seconds=0.1,
        advance=lambda done, total: seen.append((done, total)),
    )
    assert result["images"] == len(dataset)
    assert seen[-1] == (len(dataset), len(dataset))
    rows = {row["precision"] if row["file"] != "PyTorch" else "PyTorch": row for row in result["files"]}
    assert set(rows) == {"PyTorch", "fp32", "int8", "int8+fp16"}
    assert rows["PyTorch"]["agreement"] == 1.0
    assert rows["PyTorch"]["deviation"] == 0.0
    assert rows["fp32"]["agreement"] == 1.0
    assert rows["fp32"]["deviation"] < 1e-4 < rows["int8"]["deviation"]
    assert all(row["ms_p50"] > 0 for row in result["files"])
    with Session.open(nano_bundle, "int8") as session:
        labels = session([dataset.load(i) for i in range(len(dataset))]).probabilities.argmax(axis=1)
    expected = np.mean(labels == [sample.label for sample in dataset.samples])
    assert rows["int8"]["accuracy"] == pytest.approx(expected)


def test_unreadable_images_are_named_and_an_empty_comparison_fails(
    nano_checkpoint, nano_bundle, dataset, tmp_path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    bad = dataclasses.replace(dataset.samples[0], path=broken)
    some = dataclasses.replace(dataset, samples=(*dataset.samples[:3], bad))
    result = compare_bundle(nano_checkpoint, nano_bundle, some, threads=1, min_runs=1, max_seconds=0.0)
    assert result["images"] == 3
    assert result["skipped"] == [str(broken)]
    with pytest.raises(EdgefelError, match="nothing was compared"):
        compare_bundle(nano_checkpoint, nano_bundle, dataclasses.replace(dataset, samples=(bad,)))


def test_other_classes_are_refused(nano_checkpoint, nano_bundle, dataset):
    other = dataclasses.replace(dataset, labels=tuple("abcdefg"))
    with pytest.raises(EdgefelError, match="share fewer than two classes"):
        compare_bundle(nano_checkpoint, nano_bundle, other)


def test_a_checkpoint_that_names_its_outputs_otherwise_is_refused(
    nano_checkpoint, nano_bundle, dataset, tmp_path
):
    other = load_checkpoint(nano_checkpoint)
    save_checkpoint(tmp_path / "other", other.model, other.labels[::-1], other.preprocessing)
    with pytest.raises(EdgefelError, match="names its outputs neutral, .* the checkpoint .*other anger, "):
        compare_bundle(tmp_path / "other", nano_bundle, dataset)


def test_the_order_of_classes_does_not_matter(nano_checkpoint, nano_bundle, dataset):
    again = dataset.reordered(dataset.labels[::-1])
    assert [sample.label for sample in again.samples] == [6 - sample.label for sample in dataset.samples]
    results = [
        compare_bundle(nano_checkpoint, nano_bundle, data, threads=1, min_runs=1, max_seconds=0.0)
        for data in (dataset, again)
    ]
    accuracies = [[row["accuracy"] for row in result["files"]] for result in results]
    assert accuracies[0] == accuracies[1]
    assert results[1]["classes"]["judged"] == list(dataset.labels[::-1])
