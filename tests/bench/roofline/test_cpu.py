"""Measured ceilings of this processor, against sense."""

from __future__ import annotations

import onnx
import pytest

from edgefel.bench.roofline import cpu
from edgefel.bench.roofline.devices import DeviceSpec
from edgefel.bench.roofline.graph import read_network
from edgefel.bench.roofline.layers import fused_layers
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError
from edgefel.runtime.telemetry.sysfs import lacks_vnni


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
        if kind == "int8" and "OpenVINO" in name and lacks_vnni():
            continue  # its sums overflow there
        values = found[0]
        reference = next(
            other[0] for key, other in results.items() if key.split(" in ")[0] == name.split(" in ")[0]
        )
        assert values.std() > 0.1
        assert abs(values - reference).max() < (0.07 if kind == "int8" else 1e-2)


def test_no_thread_measures_nothing():
    with pytest.raises(EdgefelError, match="at least 1"):
        cpu.measure_cpu(0)
