"""`edgefel bench roofline`, end to end on the committed bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result
from counted_graphs import BUNDLE

from edgefel.bench import environment
from edgefel.bench.results import append_results, make_row, read_results
from edgefel.bench.roofline.bound import BOUND
from edgefel.bench.timer import Timing
from edgefel.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", "roofline", *map(str, arguments)])


def rows(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_rows_of_a_bundle(tmp_path):
    path = tmp_path / "rows.jsonl"
    result = run(
        BUNDLE, "--device", "orin-nx,thor", "--batch-sizes", "1,8", "--layers", "3", "--json", "-o", path
    )
    found = rows(result)
    assert [(row["subject"]["target"], row["subject"]["batch"]) for row in found] == [
        *[("orin-nx", 1), ("orin-nx", 8)],
        *[("thor", 1), ("thor", 8)],
    ]
    loaded = read_results(path)
    assert loaded.problems == ()
    assert [row.to_dict() for row in loaded.rows] == found
    for row in found:
        metrics = row["metrics"]
        assert row["kind"] == "roofline"
        assert row["notes"] == [BOUND]
        assert metrics["parameters"] == 412194
        assert metrics["macs"] == 76036640 * row["subject"]["batch"]
        assert len(metrics["layers"]) == 3
        assert metrics["ceilings"]["bytes"]["source"].startswith("https://")
        assert "measured" not in metrics
        assert "MAXN" in row["environment"]["device"]
    assert found[0]["metrics"]["floor_ms"] < found[1]["metrics"]["floor_ms"]
    assert found[2]["metrics"]["floor_ms"] < found[0]["metrics"]["floor_ms"]


def test_the_table_says_that_it_is_a_bound():
    result = run(BUNDLE, "--device", "h100", "--layers", "2")
    assert result.exit_code == 0, result.output
    for text in (
        "NVIDIA H100 SXM 80 GB",
        "floor ms",
        "heaviest layers, fp32, batch 1",
        "a bound, not a measurement",
    ):
        assert text in result.stdout
    assert "heaviest" not in run(BUNDLE, "--device", "h100", "--layers", "0").stdout


def measured_row(device: str, ms: float, **subject: object):
    subject = {"model": "arbex-nano", "precision": "fp32", "backend": "tensorrt", "batch": 1, **subject}
    timing = Timing.from_nanoseconds([round(1e6 * ms)] * 5).to_dict()
    return make_row("latency", subject, {"latency_ms": timing}, {"device": device})


def test_what_was_measured_is_set_against_the_bound(tmp_path):
    path = tmp_path / "measured.jsonl"
    board = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit, 8 cores, MAXN_SUPER"
    append_results(
        path,
        [
            measured_row(board, 9.0),
            measured_row(board, 0.5),
            measured_row(board, 0.1, precision="fp16"),
            measured_row(board, 0.2, batch=8),
            measured_row(board, 0.3, model="arbex"),
            measured_row("NVIDIA Jetson Orin Nano, 6 cores", 0.4),
        ],
    )
    with path.open("a") as stream:
        stream.write("broken\n")
    result = run(BUNDLE, "--device", "orin-nx", "--measured", path, "--json")
    assert "line 7: not a line of JSON" in result.stderr
    (row,) = rows(result)
    floor = row["metrics"]["floor_ms"]
    # the last of the repetitions, and nothing of another model, precision, batch or device
    assert row["metrics"]["measured"] == {
        "tensorrt": {"p50_ms": pytest.approx(0.5), "share_of_bound": pytest.approx(floor / 0.5)}
    }
    assert "0.50 ms" in run(BUNDLE, "--device", "orin-nx", "--measured", path).stdout
    result = run(BUNDLE, "--device", "agx-orin", "--measured", path)
    assert "no row of this model, precision, batch and device" in result.stderr


def test_a_cpu_is_measured_and_compared_with_its_own_rows(tmp_path, monkeypatch):
    from edgefel.bench.roofline import cpu
    from edgefel.bench.timer import TimingPlan

    quick = TimingPlan(warmup=1, settle_seconds=0, min_runs=2, seconds=0)
    original = cpu.measure_cpu
    monkeypatch.setattr(cpu, "measure_cpu", lambda threads: original(threads, quick, 8 << 20))
    here = environment.describe()["device"]
    path = tmp_path / "measured.jsonl"
    append_results(
        path,
        [
            measured_row(here, 100.0, backend="openvino", threads=1),
            measured_row(here, 200.0, backend="onnxruntime", threads=2),
            measured_row("another", 300.0, backend="pytorch", threads=1),
            measured_row(here, 400.0, backend="tensorrt", threads=1),
        ],
    )
    result = run(BUNDLE, "--device", "cpu", "--threads", "1", "--measured", path, "--json")
    assert "measuring the ceilings of 1 CPU thread\n" in result.stderr
    (row,) = rows(result)
    assert row["subject"]["threads"] == 1
    assert row["environment"]["device"] == here
    assert list(row["metrics"]["measured"]) == ["openvino"]
    assert {one["basis"] for one in row["metrics"]["ceilings"].values()} == {"measured"}


def test_the_plot(tmp_path):
    path = tmp_path / "plot.png"
    result = run(BUNDLE, "--device", "agx-orin", "--plot", path)
    assert result.exit_code == 0, result.output
    image = cv2.imread(str(path))
    assert image.shape[0] > 400
    assert len({tuple(colour) for colour in image.reshape(-1, 3)[::7]}) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "neither a bundle folder (one with manifest.json) nor a model; known models: arbex, "),
        (
            [BUNDLE, "--device", "orin"],
            "unknown device 'orin'; known: orin-nano-super, orin-nx, agx-orin, thor, h100",
        ),
        (
            [BUNDLE, "--precision", "fp8"],
            "precision 'fp8' is not known; choose from: fp32, fp16, int8, int8+fp16",
        ),
        ([BUNDLE, "--precision", "int8"], "no int8 onnx file in this bundle"),
        ([BUNDLE, "--threads", "2"], "--threads belongs to --device cpu"),
        ([BUNDLE, "--batch-sizes", "0"], "numbers of at least 1"),
        ([BUNDLE, "--measured", "missing.jsonl"], "missing.jsonl: no such file"),
        ([BUNDLE, "--plot", "plot.jpg"], "plots are PNG files"),
        ([BUNDLE, "--plot", "plot.png", "--batch-sizes", "1,8"], "--plot draws one device at one batch"),
        ([BUNDLE, "--device", "thor,cpuu"], "unknown device 'cpuu'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "-o", "rows.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_file_that_was_changed_is_refused(tmp_path):
    folder = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    with (folder / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"x")
    result = run(folder)
    assert result.exit_code == 2
    assert "model.fp32.onnx" in result.stderr
