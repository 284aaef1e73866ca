"""Floors: by hand for single layers, and what must hold for every device, precision and batch."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from counted_graphs import nano_graphs

from edgefel.bench.roofline.bound import NetworkFloor, layer_floor, network_floor
from edgefel.bench.roofline.devices import DEVICES, Ceiling, DeviceSpec
from edgefel.bench.roofline.graph import COUNTED as PRECISIONS
from edgefel.bench.roofline.graph import read_network
from edgefel.bench.roofline.layers import LayerWork, NetworkWork, count_work


def ceiling(per_second: float) -> Ceiling:
    return Ceiling(per_second, "measured", "a test")


DEVICE = DeviceSpec(
    name="test",
    title="a device of round numbers",
    mode="full",
    matrix={"fp32": ceiling(100), "fp16": ceiling(200), "int8": ceiling(400)},
    vector={"fp32": ceiling(10), "fp16": ceiling(20)},
    bandwidth=ceiling(50),
)


def layer(matrix=None, vector=None, weights=0, read=0, written=0) -> LayerWork:
    return LayerWork("a/Conv", "Conv", matrix or {}, vector or {}, weights, read, written)


@functools.cache
def work(precision: str, batch: int) -> NetworkWork:
    return count_work(read_network(nano_graphs()[precision], batch))


def test_a_layer_waits_for_the_slower_of_its_parts():
    floor = layer_floor(layer({"int8": 800}, weights=20, read=20, written=10), DEVICE)
    assert (floor.compute, floor.memory, floor.seconds, floor.bound) == (2.0, 1.0, 2.0, "compute")
    floor = layer_floor(layer({"int8": 200}, weights=20, read=20, written=10), DEVICE)
    assert (floor.compute, floor.memory, floor.seconds, floor.bound) == (0.5, 1.0, 1.0, "memory")


def test_tensor_cores_and_the_others_work_at_the_same_time():
    assert layer_floor(layer({"fp32": 100, "fp16": 100}, {"fp16": 20}), DEVICE).compute == 1.5
    assert layer_floor(layer({"fp32": 100}, {"fp16": 20, "fp32": 10}), DEVICE).compute == 2.0


def test_a_network_is_the_sum_of_its_layers():
    layers = (layer({"fp32": 200}, weights=10), layer({"fp32": 50}, read=100, written=50), layer(read=5))
    floor = network_floor(NetworkWork(layers, (*layers, *layers), end_bytes=40, constants=3), DEVICE)
    assert floor.floor_ms == pytest.approx(1e3 * (2 + 3 + 0.1))
    assert floor.unfused_ms == pytest.approx(2e3 * (2 + 3 + 0.1))
    # 2.5 s of computing, or 50 bytes of weights and ends
    assert floor.ideal_ms == pytest.approx(2500)
    assert floor.share("compute") == pytest.approx(2 / 5.1)
    assert floor.share("memory") == pytest.approx(3.1 / 5.1)
    assert [found.seconds for found in floor.heaviest(2)] == [3.0, 2.0]
    assert floor.macs == 125
    metrics = floor.metrics(1)
    assert metrics["bytes"] == {"weights": 10, "read": 105, "written": 50}
    (heaviest,) = metrics["layers"]
    assert (heaviest["bound"], heaviest["floor_ms"], heaviest["bytes"]) == ("memory", 3000.0, 150)
    assert heaviest["share"] == pytest.approx(3 / 5.1)


def test_an_ideal_run_still_moves_weights_and_ends():
    floor = network_floor(NetworkWork((layer(weights=100),), (), end_bytes=25, constants=1), DEVICE)
    assert floor.ideal_ms == pytest.approx(1e3 * 125 / 50)


@functools.cache
def floor(precision: str, batch: int, device: str) -> NetworkFloor:
    return network_floor(work(precision, batch), DEVICES[device])


@pytest.mark.parametrize("device", list(DEVICES))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_more_images_never_take_less(device, precision):
    floors = [floor(precision, batch, device) for batch in (1, 2, 3, 8, 17)]
    for name in ("floor_ms", "unfused_ms", "ideal_ms"):
        values = [getattr(one, name) for one in floors]
        assert values == sorted(values)
        assert values[0] > 0
    # weights are read once: eight images take less than eight times as long
    assert floors[3].floor_ms < 8 * floors[0].floor_ms


@pytest.mark.parametrize("device", list(DEVICES))
@pytest.mark.parametrize("batch", [1, 8])
def test_narrower_types_never_take_longer(device, batch):
    for name in ("floor_ms", "ideal_ms"):
        fp32, fp16, int8, mixed = (getattr(floor(precision, batch, device), name) for precision in PRECISIONS)
        assert fp16 <= fp32
        assert int8 <= fp32
        assert mixed <= min(fp16, int8)


@pytest.mark.parametrize("device", list(DEVICES))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fusing_and_caching_never_take_longer(device, precision):
    one = floor(precision, 8, device)
    assert one.ideal_ms <= one.floor_ms <= one.unfused_ms
    assert one.share("compute") + one.share("memory") == pytest.approx(1)


def test_a_faster_memory_makes_nothing_slower():
    device = DEVICES["orin-nx"]
    twice = dataclasses.replace(device, bandwidth=ceiling(2 * device.bandwidth.per_second))
    for before, after in zip(
        network_floor(work("fp16", 1), device).layers,
        network_floor(work("fp16", 1), twice).layers,
        strict=True,
    ):
        assert after.memory == before.memory / 2
        assert after.compute == before.compute
