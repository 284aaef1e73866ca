"""`edgefel train --qat` and the export of what it makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from convolutions import Convolutions
from exported import LABELS, colour_batch, run_onnx, save, tiny_graph, tiny_model, varied_model
from onnx import numpy_helper
from training.runs import cli, rows, tensors, write_faces

from edgefel.calib.graph import node_scope
from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.cli.main import main
from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.qat.fake_quant import quantized_weight
from edgefel.export.qat.ranges import ENTRY, TrainedRanges, all_sites
from edgefel.export.qat.student import check_weights_match, quantize
from edgefel.models.checkpoint import load_checkpoint
from edgefel.training.config import QAT_RECIPE, TrainConfig, load_config

FLAGS = ("--batch-size", 4, "--per-class", 2, "--accelerator", "cpu", "--workers", 0, "--lr", 1e-4)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A checkpoint, images, a run of four steps whose ranges learn too, and its bundle."""
    root = tmp_path_factory.mktemp("qat")
    save(root / "checkpoint", varied_model())
    write_faces(root / "faces", labels=LABELS)
    limits = ("--max-steps", 4, "--checkpoint-every", 2, "--keep", 3, "--log-every", 2)
    start = ("--qat", root / "checkpoint", "--data", root / "faces", "-o", root / "run", "--qat-learn-ranges")
    result = cli(*start, *limits, *FLAGS, "--qat-range-lr", 0.05)
    assert result.exit_code == 0, result.output
    result = export(root, "bundle", "--fp32", "--int8", "--json")
    assert result.exit_code in (0, 3), result.output
    return root


def export(home: Path, name: str, *more: object):
    arguments = ("export", home / "run", "-o", home / name, "--data", home / "faces", *more)
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def last(home: Path):
    return load_checkpoint(home / "run" / "checkpoints" / "step-000004")


@pytest.mark.slow
def test_the_run_is_a_run_like_others(home):
    lines = rows(home / "run")
    assert [line["step"] for line in lines] == ["2", "4"]
    assert all(0 < float(line["loss_logits"]) < float(line["loss"]) for line in lines)
    assert all(float(line["lr"]) <= 1e-4 for line in lines)  # not that of the ranges
    assert lines[1]["val_accuracy"]
    assert not lines[0]["loss_classification"]
    config = load_config(home / "run" / "config.yaml")
    assert (config.model, config.augment.rotation, config.lr) == ("arbex-nano", 0.0, 1e-4)
    original = load_checkpoint(home / "run" / "original")
    for name, value in original.model.state_dict().items():
        assert torch.equal(value, varied_model().state_dict()[name])


@pytest.mark.slow
def test_ranges_learn_and_are_of_every_policy(home):
    trained = TrainedRanges.of(last(home))
    assert trained is not None
    before = TrainedRanges.of(load_checkpoint(home / "run" / "checkpoints" / "step-000002"))
    sides = {site.rpartition(":")[2] for site in trained.scales}
    assert sides == {"input", "output", "skip"}
    moved = {site for site, scale in trained.scales.items() if scale != before.scales[site]}
    assert len(moved) > 0.9 * sum(not site.endswith(":skip") for site in trained.scales)
    # a tensor has one scale, whichever policy quantizes it
    graph = onnx.load(home / "bundle" / "model.fp32.onnx")
    sites = all_sites(graph)
    assert any(len({site.side for site in own}) > 1 for own in sites.values())
    assert len(trained.scales_of(graph, sites)) == len(sites)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_to_the_bit(home, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(home / "run", again)
    shutil.rmtree(again / "checkpoints" / "step-000004")
    (again / "best.json").unlink()
    pointer = {"checkpoint": "checkpoints/step-000002", "step": 2, "epoch": 0}
    (again / "last.json").write_text(json.dumps(pointer))
    result = cli("--resume", again)
    assert result.exit_code == 0, result.output
    one, two = tensors(home / "run"), tensors(again)
    assert one.keys() == two.keys()
    assert any(name.startswith("optimizer ranges.delta") for name in one)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert rows(home / "run") == rows(again)
    assert last(home).extra[ENTRY] == load_checkpoint(again).extra[ENTRY]


@pytest.mark.slow
def test_the_exported_file_is_what_was_trained(home):
    """Integers and scales to the bit; outputs but for values that rounding takes to the neighbouring integer."""
    checkpoint = last(home)
    int8 = onnx.load(home / "bundle" / "model.int8.onnx")
    fp32 = onnx.load(home / "bundle" / "model.fp32.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    compared = 0
    for node in fp32.graph.node:
        if len(node.input) < 2 or f"{node.input[1]}.int8" not in constants:
            continue
        module = checkpoint.model.get_parameter(f"{node_scope(node)}.weight")
        values, scales = quantized_weight(module)
        stored = constants[f"{node.input[1]}.int8"]
        assert np.array_equal(stored if node.op_type == "Conv" else stored.T, values.numpy()), node.name
        assert np.array_equal(constants[f"{node.input[1]}.scale"], scales.numpy().ravel()), node.name
        compared += 1
    assert compared == sum(".int8" in name for name in constants) > 20
    known = TrainedRanges.of(checkpoint)
    wanted = {np.float32(scale) for scale in known.scales.values()}
    of_activations = [
        constants[node.input[1]] for node in int8.graph.node if node.op_type == "QuantizeLinear"
    ]
    assert {scale.item() for scale in of_activations} <= {scale.item() for scale in wanted}
    config = load_config(home / "run" / "config.yaml")
    student = quantize(config, load_checkpoint(home / "run" / "original"), checkpoint, torch.device("cpu"))
    batch = colour_batch(16, seed=3)
    with torch.no_grad():
        with Convolutions() as computed:
            trained = student.model.judged(torch.from_numpy(batch))
        exact = checkpoint.model(torch.from_numpy(batch))
    assert computed.seen
    assert not computed.strided_pointwise
    file = run_onnx(int8, batch)
    for name in ("logits", "embedding"):
        like_training = sqnr_db(file[name], getattr(trained, name).numpy())
        like_float = sqnr_db(file[name], getattr(exact, name).numpy())
        assert like_training > like_float + 3, f"{name}: {like_training} dB, float {like_float} dB"


@pytest.mark.slow
def test_export_says_whose_ranges_it_uses_and_compares_with_the_network_before(home):
    manifest = json.loads((home / "bundle" / "manifest.json").read_text())
    file = next(entry for entry in manifest["files"] if entry["precision"] == "int8")
    calibration = file["builder"]["calibration"]
    assert (calibration["ranges"], calibration["trained_for"], calibration["learned"]) == (
        "checkpoint", "int8", True,
    )  # fmt: skip
    before = file["parity"]["before"]
    assert 0 <= before["top1_agreement"] <= 1
    assert before["kl_mean"] >= 0
    assert not (home / "bundle" / "calibration.json").exists()


@pytest.mark.slow
def test_an_explicit_calibration_takes_the_place_of_the_ranges(home):
    result = export(home, "anew", "--int8", "--calibration", "minmax", "--per-class", 2)
    assert result.exit_code in (0, 3), result.output
    assert "warning: calibrated anew" in result.stderr
    manifest = json.loads((home / "anew" / "manifest.json").read_text())
    assert manifest["files"][0]["builder"]["calibration"]["method"] == "minmax"
    assert "trained" not in manifest["files"][0]["builder"]["calibration"]
    scales = [
        {
            t.name: numpy_helper.to_array(t)
            for t in onnx.load(home / folder / "model.int8.onnx").graph.initializer
        }
        for folder in ("bundle", "anew")
    ]
    assert scales[0]["image.scale"] != scales[1]["image.scale"]


def test_settings_that_mean_nothing_with_qat_are_refused(tmp_path):
    result = cli("--qat", tmp_path, "--data", tmp_path, "-o", tmp_path / "run", "--ema", 0.9, "--mixup", 0.1)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "qat: ema, augment.mixup cannot be changed for quantization-aware training; leave out what sets it\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_is_one_line(tmp_path):
    result = cli("--qat", tmp_path / "none", "--data", tmp_path, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert f"{tmp_path / 'none'}: no such checkpoint" in result.stderr


def test_the_recipe_holds_settings_that_exist():
    config = TrainConfig().replaced(QAT_RECIPE | {"qat": "somewhere"})
    assert (config.lr, config.max_steps, config.augment.noise) == (2e-5, QAT_RECIPE["max_steps"], 0.0)


def test_a_layer_whose_weights_the_export_changes_is_refused():
    # its BatchNorms are not absorbed
    with pytest.raises(EdgefelError, match=r"the export changes its weights.*cannot be trained for INT8$"):
        check_weights_match(tiny_graph(), place(tiny_graph(), ONNXRUNTIME), tiny_model())
