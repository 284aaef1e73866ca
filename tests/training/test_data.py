"""Wrong labels on purpose: how many, which, and that nothing but the training labels changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefel.data.loading.sampling import UniformEpoch
from edgefel.data.open import open_dataset
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.errors import EdgefelError
from edgefel.training.config import TrainConfig
from edgefel.training.data import open_data, with_label_noise
from edgefel.training.model import run_preprocessing


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise") / "faces"
    write_faces(folder, FaceOptions(count=80, subjects=20, size=32), workers=1)
    return folder


@given(st.integers(1, 200), st.floats(0, 1), st.integers(2, 8), st.integers(0, 100))
def test_the_share_is_wrong_and_nothing_else(count, share, classes, seed):
    targets = np.random.default_rng(seed).integers(0, classes, count)
    before = targets.copy()
    noisy = with_label_noise(targets, share, classes, seed)
    assert (noisy != targets).sum() == round(share * count)
    assert noisy.min() >= 0
    assert noisy.max() < classes
    np.testing.assert_array_equal(targets, before)
    np.testing.assert_array_equal(noisy, with_label_noise(targets, share, classes, seed))


def test_more_noise_is_the_same_noise_and_more():
    targets = np.arange(1000) % 7
    some, more = (with_label_noise(targets, share, 7, 3) for share in (0.2, 0.5))
    wrong = some != targets
    np.testing.assert_array_equal(some[wrong], more[wrong])
    assert not np.array_equal(with_label_noise(targets, 0.2, 7, 4), some)


def test_wrong_labels_are_any_other_class_alike():
    noisy = with_label_noise(np.zeros(60_000, np.int64), 1.0, 7, 0)
    counts = np.bincount(noisy, minlength=7)
    assert counts[0] == 0
    # six classes, 10,000 each; 500 is more than five standard deviations
    assert np.abs(counts[1:] - 10_000).max() < 500


def config(faces, **changes) -> TrainConfig:
    return TrainConfig.from_dict({"model": "arbex-nano", "data": str(faces), "per_class": 4, **changes})


def opened(faces, **changes):
    given = config(faces, **changes)
    return open_data(given, run_preprocessing(given))


def test_a_run_trains_on_the_wrong_labels_and_validates_on_the_right_ones(faces):
    clean, noisy = opened(faces), opened(faces, label_noise=0.5)
    before, after = clean.targets.numpy(), noisy.targets.numpy()
    assert (before != after).sum() == round(0.5 * len(before))
    # the images that stand in and the balance go by the labels that the run believes in
    np.testing.assert_array_equal(noisy.train.dataset.targets(), after)
    np.testing.assert_array_equal(noisy.sampler.labels, after)
    np.testing.assert_array_equal(noisy.val.dataset.targets(), clean.val.dataset.targets())
    paths = [[sample.path for sample in data.train.dataset.samples] for data in (clean, noisy)]
    assert paths[0] == paths[1]


def test_soft_labels_have_no_noise(faces):
    with pytest.raises(EdgefelError, match="label_noise changes labels, not soft labels"):
        opened(faces, label_noise=0.1, loss={"soft_labels": True})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_that_are_none(faces, share):
    with pytest.raises(EdgefelError, match="label_noise"):
        config(faces, label_noise=share)


def test_epochs_from_all_alike_are_as_long_as_balanced_ones(faces):
    balanced, alike = opened(faces), opened(faces, balanced=False)
    assert isinstance(alike.sampler, UniformEpoch)
    assert len(alike.sampler) == len(balanced.sampler)
    assert alike.sampler.indices(0).max() < len(alike.targets)


@pytest.mark.parametrize("table", [False, True])
def test_other_labels_for_the_same_images(faces, table):
    from edgefel.data.dataset import FileStore, ImageDataset, SampleTable

    data = open_dataset(faces)
    if table:
        names = [str(sample.path.relative_to(faces)) for sample in data.samples]
        samples = SampleTable(FileStore(faces, names), data.targets(), data.groups(), [""] * 100, "train")
        data = ImageDataset(faces, data.labels, samples)
    other = (data.targets() + 1) % 7
    changed = data.relabelled(other)
    np.testing.assert_array_equal(changed.targets(), other)
    for before, after in zip(data.samples, changed.samples, strict=True):
        assert dataclasses.replace(after, label=before.label) == before
