"""The calibration bench runs a real calibration and counts nobody else's memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import write_faces
from onnx import TensorProto, helper, numpy_helper

from edgefel.bench import calibration
from edgefel.data.labels import expression_labels
from edgefel.workers import worker_pool


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A network of one convolution, and 14 images."""
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["conv"], "conv"),
            helper.make_node("Relu", ["conv"], ["output"], "relu"),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 16, 110, 110])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    write_faces(tmp_path / "faces", expression_labels(7), 2)
    return tmp_path


def test_the_row_is_of_the_calibrating_process(prepared):
    fat = np.ones(100_000_000)  # 800 MB here must not show there
    with worker_pool(1) as pool:
        row = pool.submit(calibration._calibrate, str(prepared), "entropy", 2).result()
    assert fat.nbytes == 8e8
    assert (row["images"], row["tensors"], row["workers"]) == (14, 2, 2)
    assert row["activation_bytes_per_image"] == 4 * 16 * 110 * 110
    assert set(row["seconds_by_phase"]) == {"load", "session", "collect", "thresholds"}
    assert row["seconds"] == pytest.approx(sum(row["seconds_by_phase"].values()), abs=0.03)
    assert row["seconds_per_image"] > 0
    assert 20 < row["peak_mb"] < 600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--method", "median"],
            "calibration method 'median' is not known; choose from: sqnr, mse, minmax, percentile, entropy",
        ),
        (["--images", "0"], "images 0: give numbers of at least 1"),
    ],
)
def test_bad_arguments_are_one_line_and_two(arguments, said, capsys):
    assert calibration.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.slow
def test_a_registered_model_from_start_to_end(capsys, nano_weights):
    assert calibration.main(["--model", "arbex-nano", "--images", "8", "--workers", "1"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["bench"], row["model"], row["images"], row["workers"]) == ("calibration", "arbex-nano", 8, 1)
    assert row["command"].startswith("python -m edgefel.bench.calibration --model arbex-nano --images 8")
    assert row["tensors"] > 50
    assert row["activation_bytes_per_image"] > 1e6
    assert math.isfinite(row["peak_mb"])
    assert row["machine"]["cores"] >= 1
