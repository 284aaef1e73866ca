"""Running a graph on calibration images: the same histograms however they are run, and errors that name a tensor."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
from exported import random_batch, tiny_graph
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.collect import (
    ActivationCollector,
    activation_scales,
    collect_activations,
)
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.calib.thresholds import METHODS
from edgefel.errors import EdgefelError


def small_graph(weight: np.ndarray | None = None, batch: int | str = "N") -> onnx.ModelProto:
    """conv = Conv(image), dead = conv * 0 + 0.5, fixed = Sqrt(weight): [N, 4, 6, 6] from [N, 3, 8, 8]."""
    if weight is None:
        weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    zero, half = np.zeros(1, dtype=np.float32), np.full(1, 0.5, dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], "conv"),
        helper.make_node("Mul", ["conv", "zero"], ["nothing"], "mul"),
        helper.make_node("Add", ["nothing", "half"], ["dead"], "add"),
        helper.make_node("Sqrt", ["half"], ["fixed"], "sqrt"),
        helper.make_node("Relu", ["conv"], ["output"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("weight", weight), ("zero", zero), ("half", half))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


IMAGES = random_batch(11, 1, size=8)


def in_batches(images: np.ndarray, size: int) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def test_histograms_are_the_same_to_the_bit_for_any_batch_size_and_pool():
    graph, images = tiny_graph(), random_batch(7, 3)
    images[3] *= 40.0  # limits grow in the middle of a run
    tensors = place(graph, ONNXRUNTIME).activations
    first = collect_activations(graph, tensors, [images], workers=1)
    for size, workers in ((1, 1), (3, 2), (8, 5)):
        found = collect_activations(graph, tensors, in_batches(images, size), workers=workers)
        for name in tensors:
            one, other = first[name], found[name]
            assert (one.limit, one.low, one.high, one.shape) == (
                other.limit,
                other.low,
                other.high,
                other.shape,
            )
            assert np.array_equal(one.counts, other.counts), name


def test_activations_are_those_of_the_graph():
    seen: list[int] = []
    found = collect_activations(
        small_graph(), ["image", "conv", "output"], in_batches(IMAGES, 4), seen.append
    )
    assert seen == [1] * 11
    assert (found["image"].low, found["image"].high) == (IMAGES.min(), IMAGES.max())
    assert found["conv"].counts.sum() == 11 * 4 * 6 * 6
    assert found["conv"].shape == (4, 6, 6)
    assert found["output"].low == 0.0
    assert found["output"].high == found["conv"].high > 0


def test_images_run_at_the_same_time_and_only_a_few_wait():
    running, most = set(), 0
    lock = threading.Lock()
    meet = threading.Barrier(3)
    collector = ActivationCollector(small_graph(), ["conv"], workers=3)
    original = collector._session.run
    read = 0

    class Session:
        def run(self, *arguments):
            nonlocal most
            with lock:
                running.add(threading.get_ident())
                most = max(most, len(running))
            meet.wait(10)  # passes when three are here, breaks if they never are
            try:
                return original(*arguments)
            finally:
                with lock:
                    running.discard(threading.get_ident())

    def batches():
        nonlocal read
        for image in random_batch(30, 2, size=8):
            read += 1
            assert read - collector.images <= 2 * 3 + 1, "images pile up in memory"
            yield image[None]

    collector._session = Session()
    collector.collect(batches())
    assert most == 3
    assert collector.images == read == 30


def test_a_collector_goes_on_and_resets():
    whole = collect_activations(small_graph(), ["conv"], [IMAGES])["conv"]
    collector = ActivationCollector(small_graph(), ["conv"], workers=2)
    collector.collect([IMAGES[:5]])
    collector.collect([IMAGES[5:]])
    assert np.array_equal(collector.histograms()["conv"].counts, whole.counts)
    for method in METHODS:
        assert collector.compute(method) == {"conv": np.float32(whole.compute(method) / 127)}
    collector.reset()
    with pytest.raises(EdgefelError, match="no images"):
        collector.compute("mse")
    collector.collect([IMAGES])
    assert np.array_equal(collector.histograms()["conv"].counts, whole.counts)


def test_no_false_alarm_over_a_constant():
    tensors = dict.fromkeys(
        t for policy in (ONNXRUNTIME, TENSORRT) for t in place(tiny_graph(), policy).activations
    )
    found = collect_activations(tiny_graph(), list(tensors), [random_batch(1)])
    scales = activation_scales(found, "minmax")
    assert min(scales.values()) > 0


def test_a_dead_layer_is_named():
    found = collect_activations(small_graph(), ["conv", "dead"], [IMAGES])
    with pytest.raises(EdgefelError, match="'dead' is 0.5 everywhere, in all images; check the checkpoint"):
        activation_scales(found, "minmax")
    with pytest.raises(EdgefelError, match="'image' is 0 everywhere.*blank"):
        activation_scales(collect_activations(small_graph(), ["image"], [IMAGES * 0]), "mse")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("fixed", "'fixed' does not depend on the image"),
        ("weight", "'weight' is no activation of the graph"),
        ("nobody", "'nobody' is no activation of the graph"),
    ],
)
def test_only_what_comes_from_the_image_is_observed(tensor, said):
    with pytest.raises(EdgefelError, match=said):
        ActivationCollector(small_graph(), ["conv", tensor])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_name_the_tensor(bad):
    weight = np.ones((4, 3, 3, 3), dtype=np.float32)
    weight[1, 1] = bad
    with pytest.raises(EdgefelError, match="'conv' is not finite; check the checkpoint"):
        collect_activations(small_graph(weight), ["image", "conv"], [IMAGES], workers=2)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 3, 8, 9), dtype=np.float32),
        np.zeros((2, 1, 8, 8), dtype=np.float32),
        np.zeros((3, 8, 8), dtype=np.float32),
        np.zeros((2, 3, 8, 8), dtype=np.float64),
    ],
)
def test_batches_of_another_kind_are_refused(batch):
    with pytest.raises(EdgefelError, match=r"the graph takes float32 \[N, 3, 8, 8\]"):
        collect_activations(small_graph(), ["conv"], [IMAGES, batch])


def test_graphs_that_do_not_take_one_image_are_refused():
    assert collect_activations(small_graph(batch=1), ["conv"], [IMAGES])["conv"].shape == (4, 6, 6)
    with pytest.raises(EdgefelError, match="no input 'image'"):
        ActivationCollector(small_graph(batch=4), ["conv"])


def test_an_error_while_reading_ends_the_run():
    def broken():
        yield IMAGES
        raise EdgefelError("the disk is gone")

    before = threading.active_count()
    with pytest.raises(EdgefelError, match="the disk is gone"):
        collect_activations(small_graph(), ["conv"], broken(), workers=3)
    assert threading.active_count() == before, "workers are left running"


def test_no_images_and_no_workers_are_errors():
    with pytest.raises(EdgefelError, match="no images"):
        collect_activations(small_graph(), ["image"], [])
    with pytest.raises(EdgefelError, match="0 workers; give at least 1"):
        ActivationCollector(small_graph(), ["image"], workers=0)


def test_an_output_of_the_graph_is_not_returned_twice():
    collector = ActivationCollector(small_graph(), ["output", "conv", "output"])
    assert [value.name for value in collector._session.get_outputs()] == ["output", "conv"]


def test_the_graph_is_not_changed():
    graph = small_graph()
    before = graph.SerializeToString(deterministic=True)
    collect_activations(graph, ["image", "conv", "output"], [IMAGES])
    assert graph.SerializeToString(deterministic=True) == before
