"""Compiled kernels in the deploy folder: those of the bundle's model, whole, or the reason why there are none."""

from __future__ import annotations

import dataclasses

import pytest

from edgefel.deploy.kernel_files import kernels_from, why_not_compiled
from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.onnx_functions import FusedNode


def test_kernels_of_another_model_are_refused(bundle, kernel_folder):
    model = read_manifest(bundle).model
    assert kernels_from(kernel_folder, model).archs == ("sm_87", "sm_110")
    other = dataclasses.replace(model, name="arbex")
    with pytest.raises(EdgefelError, match="kernels of 'tiny', and the bundle's model is 'arbex'"):
        kernels_from(kernel_folder, other)


def test_damaged_kernels_are_refused(bundle, kernel_folder, tmp_path):
    (kernel_folder / "sm_110" / "balance.cubin").write_bytes(b"changed")
    with pytest.raises(EdgefelError, match=r"balance\.cubin: is not the file that balance\.json describes"):
        write_deploy_folder(bundle, tmp_path / "edge.tar", DeployOptions(kernels=kernel_folder))
    assert not (tmp_path / "edge.tar").exists()


def test_why_kernels_are_left_out(bundle, tmp_path, monkeypatch):
    model = read_manifest(bundle).model
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in (why_not_compiled(model) or "")
    monkeypatch.delenv("TRITON_INTERPRET")
    deployed = write_deploy_folder(bundle, tmp_path / "edge.tar")
    assert any("'tiny' is no registered model; make them with" in note for note in deployed.notes)
    assert why_not_compiled(dataclasses.replace(model, name="arbex-nano")) is None


def test_fused_operators_without_a_kernel_are_named(bundle, kernel_folder):
    model = read_manifest(bundle).model
    nodes = [FusedNode("head/a", "balance", {}), FusedNode("level/b", "window_cross_attention_w7", {})]
    assert kernels_from(kernel_folder, model, nodes[:1]).note is None
    found = kernels_from(kernel_folder, model, nodes)
    assert found.archs == ("sm_87", "sm_110")
    said = "no kernels for window_cross_attention_w7, which engines compute as a decomposed graph; compile them with"
    assert said in (found.note or "")
