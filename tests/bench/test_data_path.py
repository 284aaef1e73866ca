"""The data path stage by stage: the same images by every way, nothing read ahead, and what epochs of many cost."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_rows import example_rows

from edgefel.bench import data_path
from edgefel.bench.data_path import (
    DataPathCase,
    DataPathOptions,
    Paths,
    TrainingRate,
    bench_data_path,
    training_rate,
)
from edgefel.bench.results import append_results, read_results
from edgefel.bench.timer import TimingPlan
from edgefel.data.loading.batches import Batch, ImageSource
from edgefel.data.loading.sampling import BalancedEpoch
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError

ROWS = Path(__file__).parents[2] / "docs" / "results" / "data-path.jsonl"
BRIEF = TimingPlan(warmup=0, settle_seconds=0, min_runs=2, seconds=0, max_runs=2)
SIZE = default_preprocessing(112)


@pytest.fixture
def options(faces_folder):
    return DataPathOptions(faces_folder, "arbex-nano", (1, 2), batch=4, images=10, plan=BRIEF)


def test_every_stage_is_a_row_and_says_how_many_times_training_it_is(options, tmp_path):
    steps = []
    rated = dataclasses.replace(options, training=TrainingRate(50.0, "as given"), threads=1)
    threads = torch.get_num_threads()
    rows = bench_data_path(rated, lambda step, share: steps.append(share))
    assert torch.get_num_threads() == threads
    assert steps[-1] == 1.0
    assert [(row.subject["stage"], row.subject["workers"]) for row in rows] == [
        *(("read", None), ("decode", None), ("resize", None), ("read to batch", 1), ("read to batch", 2)),
        *(("cached to batch", None), ("augment", None), ("whole", 1), ("whole", 2), ("whole cached", None)),
    ]
    for row in rows:
        metrics = row.metrics
        assert row.subject["images"] == 10
        assert row.subject["image_px"] == "128x128"
        assert row.subject["threads"] == (
            1 if row.subject["stage"] in ("augment", "whole", "whole cached") else None
        )
        assert metrics["images_per_s"] == pytest.approx(1e4 / metrics["latency_ms"]["p50"])
        assert metrics["times_training"] == pytest.approx(metrics["images_per_s"] / 50)
        assert "training: 50 images/s, as given" in row.notes
    append_results(tmp_path / "rows.jsonl", rows)
    assert read_results(tmp_path / "rows.jsonl").rows == rows


def test_stages_begin_with_what_the_one_before_them_gives(options, monkeypatch):
    paths = Paths(options, SIZE)
    encoded, decoded = [], []
    decode, load = data_path.decode_rgb, type(SIZE).resize_image
    monkeypatch.setattr(
        data_path, "decode_rgb", lambda data, path: encoded.append(data) or decode(data, path)
    )
    paths.call(DataPathCase("decode"))()
    assert encoded == [sample.read() for sample in paths._samples]
    monkeypatch.setattr(type(SIZE), "resize_image", lambda self, rgb: decoded.append(rgb) or load(self, rgb))
    paths.call(DataPathCase("resize"))()
    assert len(decoded) == len(encoded) == paths.images == 10
    for image, data in zip(decoded, encoded, strict=True):
        np.testing.assert_array_equal(image, decode(data, None))
    assert paths.image_bytes == np.mean([len(data) for data in encoded])


@pytest.mark.parametrize("stage", ["read to batch", "whole", "whole cached", "augment"])
def test_a_pass_takes_every_image_and_leaves_no_thread_that_reads_on(options, stage, monkeypatch):
    paths = Paths(options, SIZE)
    seen = []
    augment = paths._augmentation

    def counted(pixels, epoch, step):
        seen.append((step, len(pixels)))
        return augment(pixels, epoch, step)

    monkeypatch.setattr(paths, "_augmentation", counted)
    loaded = []
    load = type(paths._dataset).load
    monkeypatch.setattr(type(paths._dataset), "load", lambda self, i: loaded.append(i) or load(self, i))
    paths.call(DataPathCase(stage, 2 if stage in data_path.BY_WORKERS else None))()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]
    assert seen == ([] if stage == "read to batch" else [(0, 4), (1, 4), (2, 2)])
    assert sorted(loaded) == (list(range(10)) if stage in data_path.BY_WORKERS else [])


def test_a_way_that_gives_other_images_is_not_timed(options, monkeypatch):
    batches = ImageSource.batches

    def wrong(self, lists):
        for batch in batches(self, lists):
            pixels = batch.pixels.clone()
            pixels[-1, 0, 0, 0] += self.workers == 2 and self._cache is None
            yield Batch(pixels, batch.indices)

    monkeypatch.setattr(ImageSource, "batches", wrong)
    with pytest.raises(EdgefelError, match=r"2 workers and the single stages give different images"):
        bench_data_path(options)


def test_unreadable_images_are_left_out_and_one_batch_is_needed(options, faces_folder, tmp_path):
    folder = tmp_path / "faces"
    shutil.copytree(faces_folder, folder)
    samples = open_dataset(folder).samples
    for sample in samples[5:]:
        sample.path.write_bytes(b"no image")
    assert Paths(dataclasses.replace(options, data=folder, images=100), SIZE).images == 5
    with pytest.raises(EdgefelError, match="5 readable images in an epoch, fewer than one batch of 6"):
        Paths(dataclasses.replace(options, data=folder, batch=6), SIZE)


def test_images_are_those_of_a_balanced_epoch(options):
    dataset = open_dataset(options.data)
    paths = Paths(dataclasses.replace(options, images=70), SIZE)
    counts = np.bincount(paths._dataset.targets(), minlength=7)
    assert len({sample.path for sample in paths._samples}) == 70 < len(dataset)
    assert (counts > 0).all()


def test_faces_that_are_parts_of_images_are_refused(options, monkeypatch):
    dataset = open_dataset(options.data)
    boxed = tuple(dataclasses.replace(sample, box=(0, 0, 64, 64)) for sample in dataset.samples)
    monkeypatch.setattr(data_path, "open_dataset", lambda path: dataclasses.replace(dataset, samples=boxed))
    with pytest.raises(EdgefelError, match="parts of larger images"):
        Paths(options, SIZE)


def test_the_rate_of_training_is_the_fastest_of_the_model(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [row for row in example_rows() if row.kind == "train"]
    model = rows[0].subject["model"]
    append_results(path, example_rows())
    rate = training_rate(path, model)
    speeds = [row.metrics["images_per_s"] for row in rows if row.subject["model"] == model]
    assert rate.images_per_s == max(speeds) > min(speeds) or len(speeds) == 1
    assert "measured on" in rate.source
    with pytest.raises(
        EdgefelError, match=r"holds no training of poster-v9.*edgefel bench train --model poster-v9"
    ):
        training_rate(path, "poster-v9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "magic"}, "magic"),
        ({"stages": ("fly",)}, "stage 'fly' is not known"),
        ({"stages": ()}, "no stage"),
        ({"workers": ()}, "workers none: give numbers of at least 1"),
        ({"workers": (0,)}, "numbers of at least 1"),
        ({"batch": 11}, "at least one batch"),
    ],
)
def test_bad_options(options, change, message):
    with pytest.raises(EdgefelError, match=message):
        dataclasses.replace(options, **change)


@pytest.mark.parametrize("rate", [0.0, float("nan"), float("inf")])
def test_a_rate_is_a_number(rate):
    with pytest.raises(EdgefelError, match="above 0"):
        TrainingRate(rate, "as given")


SMALL = data_path.EpochOptions(rows=20_000, videos=9, per_class=30, per_group=500, plan=BRIEF)


def test_epochs_of_a_drawn_set_are_rows(tmp_path):
    rows = data_path.bench_epochs(SMALL)
    assert [row.subject["stage"] for row in rows] == ["open the table", "make the sampler", "draw an epoch"]
    assert rows[1].metrics["images_per_s"] == pytest.approx(2e7 / rows[1].metrics["latency_ms"]["p50"])
    assert rows[2].metrics["images_per_s"] == pytest.approx(8 * 30e3 / rows[2].metrics["latency_ms"]["p50"])
    assert all(0 < row.metrics["additional_memory_mb"] < 5 for row in rows)
    append_results(tmp_path / "rows.jsonl", rows)
    assert read_results(tmp_path / "rows.jsonl").rows == rows


def test_a_drawn_set_is_skewed_and_its_expressions_last():
    dataset = data_path.open_table(data_path.draw_columns(200_000, 40))
    counts = np.bincount(dataset.targets(), minlength=8)
    assert counts.max() > 15 * counts[counts > 0].min()
    assert (np.diff(dataset.targets()) != 0).mean() < 1 / 50
    lengths = np.bincount(dataset.groups())
    assert lengths.size == 40
    assert lengths.sum() == 200_000 == len(dataset)
    assert lengths.max() > 3 * np.median(lengths)
    sample = dataset.samples[199_999]
    assert (sample.group, sample.split) == ("video39", "train")
    with pytest.raises(EdgefelError, match="drawn, not filmed|cannot be read"):
        sample.read()


def test_an_unbalanced_epoch_is_not_timed(monkeypatch):
    draw = BalancedEpoch.indices
    monkeypatch.setattr(BalancedEpoch, "indices", lambda self, epoch: draw(self, epoch)[1:])
    with pytest.raises(EdgefelError, match="not balanced"):
        data_path.bench_epochs(SMALL)


def test_memory_is_the_most_of_a_call():
    def call():
        np.zeros(8_000_000, np.uint8)
        return np.zeros(3_000_000, np.uint8)

    assert data_path.additional_memory_mb(call) == pytest.approx(8.0, abs=0.5)


@pytest.mark.parametrize("change", [{"videos": 0}, {"rows": 100}])
def test_a_set_that_is_too_small(change):
    with pytest.raises(EdgefelError, match="at least one video"):
        dataclasses.replace(SMALL, **change)


def test_epochs_of_millions_hold_what_is_promised():
    """Under 2 s and 500 MB, on whatever they were measured."""
    rows = [row for row in read_results(ROWS).rows if "rows" in row.subject]
    assert {row.subject["rows"] for row in rows} == {2_600_000}
    for row in rows:
        assert row.metrics["latency_ms"]["p50"] < 2000
        assert row.metrics["additional_memory_mb"] < 500


def test_the_path_feeds_three_times_what_trains_where_it_was_measured():
    rows = [row for row in read_results(ROWS).rows if "model" in row.subject]
    assert {row.subject["stage"] for row in rows} == set(data_path.STAGES)
    assert all(row.metrics["times_training"] >= 3 for row in rows)
