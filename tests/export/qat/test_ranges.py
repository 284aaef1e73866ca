"""Ranges in a checkpoint, and in a graph."""

from __future__ import annotations

import json

import numpy as np
import pytest
from exported import large_model, save, tiny_graph, varied_model

from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import export_onnx
from edgefel.export.qat.ranges import ENTRY, TrainedRanges, all_sites
from edgefel.models.checkpoint import load_checkpoint


def ranges(scales: dict[str, float]) -> TrainedRanges:
    return TrainedRanges("int8", False, {"method": "mse"}, {"path": "../../original", "sha256": "0"}, scales)


@pytest.mark.slow
def test_ranges_find_their_place_in_a_graph_with_other_names():
    """At 224 pixels the image is sliced first, so that tensors have other names than at 112."""
    small, large = all_sites(tiny_graph()), all_sites(export_onnx(large_model()))
    scales = {str(site): 1.0 + number for number, own in enumerate(small.values()) for site in own}
    found = ranges(scales).scales_of(export_onnx(large_model()), large)
    assert len(found) == len(small)
    assert found.keys() != small.keys()
    image = next(name for name, own in large.items() if set(own) == set(small["image"]))
    assert image != "image"
    assert found[image] == np.float32(scales[str(small["image"][0])])


def test_a_damaged_entry_is_named(tmp_path):
    folder = save(tmp_path / "c", varied_model())
    description = json.loads((folder / "model.json").read_text())
    entry = {
        "precision": "int8",
        "learned": False,
        "calibration": {},
        "original": {"path": "../../original", "sha256": "0"},
        "scales": {"encoder.embed.0.0:input": -1.0},
    }
    description["extra"] = {ENTRY: entry}
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(EdgefelError, match=r"the scale of encoder.embed.0.0:input is not a positive number"):
        TrainedRanges.of(load_checkpoint(folder))
    description["extra"][ENTRY]["scales"] = {"encoder.embed.0.0:input": 0.5}
    (folder / "model.json").write_text(json.dumps(description))
    ranges = TrainedRanges.of(load_checkpoint(folder))
    with pytest.raises(EdgefelError, match=r"ranges of image are missing or ambiguous.*--calibration"):
        ranges.scales_of(tiny_graph(), ["image"])
