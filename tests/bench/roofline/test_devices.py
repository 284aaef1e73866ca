"""Ceilings of devices, against the round numbers that the makers print."""

from __future__ import annotations

import pytest

from edgefel.bench.roofline.devices import DEVICES, Ceiling, DeviceSpec, find_device
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
