"""Entries of the manifest on the network, its checkpoint and the tools."""

from __future__ import annotations

import json
from importlib.metadata import version

from exported import save, tiny_model

from edgefel.export.record import model_info, source_entry, tool_versions
from edgefel.files.write import sha256
from edgefel.models.checkpoint import load_checkpoint
from edgefel.models.config import ModelConfig


def test_the_network_is_described_with_and_without_a_head():
    model = tiny_model()
    info = model_info(model.config)
    assert (info.name, info.num_classes, info.embedding_dim) == ("arbex-nano", 8, 64)
    assert info.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < info.gmac < 0.1
    assert ModelConfig.from_dict(json.loads(json.dumps(info.config))) == model.config
    assert info.config["encoder"]["windows"] == [14, 14, 7]  # as it is read from JSON
    linear = tiny_model("poster-v2-nano").config
    assert isinstance(linear, ModelConfig)
    assert linear.head is None
    assert model_info(linear).embedding_dim == linear.encoder.width


def test_the_path_to_the_checkpoint_is_relative_and_says_nothing_of_the_machine(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path / "runs" / "nano", tiny_model()))
    entry = source_entry(checkpoint, tmp_path / "bundles" / "one")
    weights = sha256(checkpoint.path / "model.safetensors")
    assert entry == {"checkpoint": "nano", "path": "../../runs/nano", "sha256": weights}


def test_versions_are_of_what_is_installed(monkeypatch):
    found = tool_versions()
    assert (found["onnx"], found["torch"]) == (version("onnx"), version("torch"))
    monkeypatch.setattr("edgefel.export.record._TOOLS", ("onnx", "no-such-tool"))
    assert set(tool_versions()) == {"edgefel", "onnx"}
