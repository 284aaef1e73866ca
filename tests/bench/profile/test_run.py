"""Profiles of a bundle: rows whose groups sum up to what the session takes, and counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.profile.names import GROUPS
from edgefel.bench.profile.profilers import NodeTimes
from edgefel.bench.profile.run import ProfileOptions, attribution_of, bench_profile, describe
from edgefel.bench.results import append_results, read_results
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"
BRIEF = TimingPlan(warmup=1, settle_seconds=0, min_runs=4, seconds=0, max_runs=4)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_groups_sum_up_to_the_nodes_and_these_to_the_call(tmp_path, backend):
    pytest.importorskip(backend)
    options = ProfileOptions((backend,), batches=(2,), plan=BRIEF, top=3)
    (row,) = bench_profile(BUNDLE, options).rows
    assert row.subject == {
        "model": "arbex-nano",
        "precision": "fp32",
        "backend": backend,
        "batch": 2,
        "threads": 1,
    }
    metrics = row.metrics
    groups = metrics["groups"]
    assert list(groups) == list(GROUPS)
    assert sum(group["nodes"] for group in groups.values()) == metrics["nodes"]
    assert sum(one["nodes"] for one in metrics["operators"]) == metrics["nodes"]
    assert groups["products"]["nodes"] > 50
    assert groups["head"]["nodes"] > 10
    # of two images: kernels lie inside the profiled call
    assert 0 < 2 * metrics["nodes_ms"] <= metrics["profiled_ms"] * 1.05
    assert metrics["latency_ms"]["runs"] == 4
    assert groups["products"]["gops"] > 0
    assert "gops" not in groups["layout"]
    slowest = metrics["slowest"]
    assert len(slowest) == 3
    assert slowest[0]["ms"] >= slowest[1]["ms"] >= slowest[2]["ms"] > 0
    append_results(tmp_path / "rows.jsonl", [row])
    assert read_results(tmp_path / "rows.jsonl").rows == (row,)


def test_counts_have_no_times_and_no_threads():
    pytest.importorskip("openvino")
    measured = bench_profile(BUNDLE, ProfileOptions(count=True))
    assert [row.subject["backend"] for row in measured.rows] == ["onnxruntime", "openvino"]
    onnxruntime, openvino = (row.metrics for row in measured.rows)
    assert all(set(group) == {"nodes"} for group in onnxruntime["groups"].values())
    assert "latency_ms" not in onnxruntime
    assert measured.rows[0].subject["counted"] is True
    # OpenVINO computes PReLU inside the convolutions
    assert onnxruntime["groups"]["activations"]["nodes"] > 20 > openvino["groups"]["activations"]["nodes"]


def test_times_are_medians_over_calls_of_an_image():
    manifest = read_manifest(BUNDLE)
    attribution = attribution_of(manifest, manifest.find("fp32"))
    nodes = [
        NodeTimes("encoder/Concat", "Concat", (), np.array([1.0, 2.0, 9.0])),
        NodeTimes("Transpose_token_1", "Transpose", (), np.array([3.0, 4.0, 5.0])),
        NodeTimes("Cast", "Cast", (), np.array([1.0, 1.0, 1.0])),
    ]
    found = describe(nodes, attribution, batch=2, top=2)
    assert found["nodes_ms"] == 3.5
    assert found["groups"]["layout"] == {"nodes": 2, "ms": 3.0, "share": 0.8571}
    assert found["groups"]["copies"] == {"nodes": 1, "ms": 0.5, "share": 0.1429}
    assert found["groups"]["products"] == {"nodes": 0, "ms": 0.0, "share": 0.0}
    assert [one["op"] for one in found["operators"]] == ["Transpose", "Concat", "Cast"]
    assert [one["name"] for one in found["slowest"]] == [
        "Transpose_token_1 after encoder/Concat",
        "encoder/Concat",
    ]


def test_a_backend_whose_profile_is_not_read_is_refused():
    with pytest.raises(
        EdgefelError, match="backend tensorrt: its profile is not read; choose from onnxruntime"
    ):
        ProfileOptions(("tensorrt",))


def test_a_precision_that_is_not_there_is_refused():
    with pytest.raises(EdgefelError, match="holds no int8 file"):
        bench_profile(BUNDLE, ProfileOptions(("onnxruntime",), precisions=("int8",)))
    with pytest.raises(EdgefelError, match="holds no ONNX file of what is to be counted"):
        bench_profile(BUNDLE, ProfileOptions(precisions=("int8",), count=True))
