"""Ceilings: against the round numbers that the makers print, and measured ones against sense."""

from __future__ import annotations

import onnx
import pytest

from edgefel.bench.roofline import cpu
from edgefel.bench.roofline.devices import DEVICES, Ceiling, DeviceSpec, find_device
from edgefel.bench.roofline.graph import read_network
from edgefel.bench.roofline.layers import fused_layers
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError

# dense operations of the GPU alone, T/s, as NVIDIA rounds them: FP16 and INT8 of tensor cores, FP32 of CUDA cores
PUBLISHED = {
    # JetPack 6.2: 67 sparse, 33 dense INT8, 17 FP16
    "orin-nano-super": {"fp16": 17, "int8": 33},
    # JetPack 6.2: 78 dense INT8, of which the two DLAs are 40; 19 FP16
    "orin-nx": {"fp16": 19, "int8": 78 - 40},
    # technical brief: 170 sparse INT8 of the GPU, 5.3 FP32
    "agx-orin": {"int8": 170 / 2, "elementwise fp32": 5.3},
    # 1035 sparse INT8, 517 sparse FP16
    "thor": {"fp16": 517 / 2, "int8": 1035 / 2},
    "h100": {"fp16": 989, "int8": 1979, "fp32": 495, "elementwise fp32": 67},
}


@pytest.mark.parametrize("name", list(DEVICES))
def test_ceilings_are_what_is_published(name):
    ceilings = find_device(name).ceilings
    for kind, tera in PUBLISHED[name].items():
        assert ceilings[kind]["per_second"] / 1e12 == pytest.approx(tera, rel=0.025), kind


@pytest.mark.parametrize("name", list(DEVICES))
def test_every_ceiling_says_where_it_comes_from(name):
    device = find_device(name)
    assert device.mode
    assert set(device.ceilings) == {"fp32", "fp16", "int8", "elementwise fp32", "elementwise fp16", "bytes"}
    for ceiling in device.ceilings.values():
        assert ceiling["source"].startswith("https://")
        assert ceiling["basis"] in ("published", "derived")
        assert ceiling["how"] or ceiling["basis"] == "published"
    rates = [device.matrix[kind].per_second for kind in ("fp32", "fp16", "int8")]
    assert rates == sorted(rates)
    assert device.vector["fp32"].per_second < device.matrix["fp32"].per_second


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(EdgefelError, match=r"unknown device 'nano'; known: orin-nano-super, .*, h100, cpu"):
        find_device("nano")


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_ceiling_is_a_positive_number(rate):
    with pytest.raises(ValueError, match="not a ceiling"):
        Ceiling(rate, "measured", "a test")


def test_a_ceiling_of_no_known_basis_is_refused():
    with pytest.raises(ValueError, match="not a ceiling"):
        Ceiling(1, "guessed", "a test")


def test_a_device_needs_a_ceiling_of_every_type():
    one = Ceiling(1, "measured", "a test")
    with pytest.raises(ValueError, match="every type"):
        DeviceSpec("x", "x", "x", {"fp32": one}, {"fp32": one, "fp16": one}, one)


@pytest.fixture(scope="module")
def measured() -> DeviceSpec:
    return cpu.measure_cpu(
        1, TimingPlan(warmup=1, settle_seconds=0, min_runs=3, seconds=0), copy_bytes=8 << 20
    )


def test_this_cpu_is_measured(measured):
    # one thread of anything: more than a microcontroller, less than a board of them
    for kind in ("fp32", "int8"):
        ceiling = measured.matrix[kind]
        assert 1e9 < ceiling.per_second < 2e13
        assert ceiling.basis == "measured"
        assert kind in ceiling.how
        assert "1 thread" in ceiling.how
    assert 1e8 < measured.bandwidth.per_second < 1e12
    assert measured.matrix["fp16"].per_second == measured.matrix["fp32"].per_second
    assert measured.title.endswith("1 thread")


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_what_is_measured_on_is_what_it_says(kind):
    """The graphs compute a convolution and a product of the stated size, in every backend the same."""
    for data, shape, operations in cpu._problems(kind).values():
        layers = fused_layers(read_network(onnx.load_from_string(data), shape[0]))
        assert sum(layer.matrix.get(kind, 0) for layer in layers) == operations
    results = {name: call() for name, (call, _) in cpu._calls(kind, 1).items()}
    assert any("ONNX Runtime" in name for name in results)
    for name, found in results.items():
        values = found[0]
        reference = next(
            other[0] for key, other in results.items() if key.split(" in ")[0] == name.split(" in ")[0]
        )
        assert values.std() > 0.1
        assert abs(values - reference).max() < (0.07 if kind == "int8" else 1e-2)


def test_no_thread_measures_nothing():
    with pytest.raises(EdgefelError, match="at least 1"):
        cpu.measure_cpu(0)
