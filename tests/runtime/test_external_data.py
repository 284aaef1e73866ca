"""ONNX files that keep tensors in other files are refused wherever a bundle's or a detector's file is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_model, write_bundle

from edgefel.deploy.model_files import checked_path
from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.examine import examine
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session

NANO = Path(__file__).parent.parent / "bundles" / "nano-synthetic" / "model.fp32.onnx"


def external_tensor(location: str = "weights.bin") -> TensorProto:
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def model(*nodes, initializers=(), functions=(), sparse=()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers), sparse_initializer=list(sparse))
    return helper.make_model(graph, functions=list(functions))


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def branch(tensor: TensorProto) -> onnx.NodeProto:
    inner = helper.make_graph([constant(tensor)], "then", [], [])
    return helper.make_node("If", ["which"], ["y"], then_branch=inner, else_branch=inner)


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(
        values=tensor, indices=numpy_helper.from_array(np.zeros(1, np.int64)), dims=[4]
    )


def training(tensor: TensorProto) -> onnx.ModelProto:
    whole = model()
    whole.training_info.add().algorithm.CopyFrom(model(initializers=[tensor]).graph)
    return whole


def bare() -> TensorProto:
    return TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)


PLACES = {
    "initializer": lambda: model(initializers=[numpy_helper.from_array(np.zeros(9), "a"), external_tensor()]),
    "constant": lambda: model(constant(external_tensor())),
    "branch": lambda: model(branch(external_tensor())),
    "branch in a branch": lambda: model(
        helper.make_node("Loop", [], [], body=model(branch(external_tensor())).graph)
    ),
    "function": lambda: model(
        functions=[helper.make_function("d", "f", [], ["c"], [constant(external_tensor())], [])]
    ),
    "sparse initializer": lambda: model(sparse=[sparse(external_tensor())]),
    "sparse constant": lambda: model(
        helper.make_node("Constant", [], ["c"], sparse_value=sparse(external_tensor()))
    ),
    "training": lambda: training(external_tensor()),
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_tensor_is(tmp_path, place):
    path = tmp_path / "model.onnx"
    path.write_bytes(PLACES[place]().SerializeToString())
    with pytest.raises(
        EdgefelError, match=r"model\.onnx: keeps tensors in another file \('weights\.bin'\), which its"
    ):
        refuse_external_data(path)


@pytest.mark.parametrize("location", ["../../../etc/passwd", "/etc/passwd", ""])
def test_whatever_it_names(tmp_path, location):
    path = tmp_path / "model.onnx"
    path.write_bytes(model(initializers=[external_tensor(location)]).SerializeToString())
    with pytest.raises(EdgefelError, match="keeps tensors in another file"):
        refuse_external_data(path)


def test_without_a_name_and_where_readers_merge_or_skip(tmp_path):
    """A reader of protocol buffers merges a message that occurs twice, and skips groups of numbers it does not know."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model(initializers=[bare()]).SerializeToString())
    with pytest.raises(EdgefelError, match=r"another file \(''\)"):
        refuse_external_data(path)
    group = b"\x93\x4e" + b"\x3a\x7f" + b"\x94\x4e"  # field 1250: a group with an impossible graph in it
    twice = tiny_model().SerializeToString() + model(initializers=[external_tensor()]).SerializeToString()
    path.write_bytes(group[:2] + b"\x08\x01" + group[4:] + twice)
    onnx.load(path, load_external_data=False)
    with pytest.raises(EdgefelError, match=r"another file \('weights\.bin'\)"):
        refuse_external_data(path)


def test_whole_files_pass_and_what_is_none_is_left_to_its_reader(tmp_path):
    refuse_external_data(NANO)
    path = tmp_path / "model.onnx"
    data = NANO.read_bytes()
    for part in (b"", b"nothing", data[:1000], data[:-1], b"\xff" * 4096, bytes(4096), b"\x0b" * 99):
        path.write_bytes(part)
        refuse_external_data(path)


@pytest.fixture
def split_bundle(tmp_path) -> Path:
    """A bundle whose weights lie beside the ONNX file: its hash is right, and says nothing of them."""
    folder = write_bundle(tmp_path / "bundle")
    path = folder / "model.fp32.onnx"
    onnx.save(
        tiny_model(),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    assert (folder / "weights.bin").is_file()
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.with_file(describe_file(path, kind="onnx", precision="fp32")))
    return folder


@pytest.mark.parametrize("force", [False, True])
def test_a_bundle_is_refused(split_bundle, tmp_path, force):
    manifest = read_manifest(split_bundle)
    for take in (
        lambda: Session.open(split_bundle, backend="onnxruntime", force=force),
        lambda: manifest.verify(manifest.files[0], force=force),
        lambda: checked_path(manifest, manifest.files[0], force),
        lambda: write_deploy_folder(
            split_bundle, tmp_path / "edge", DeployOptions(force=force, without_kernels=True)
        ),
    ):
        with pytest.raises(EdgefelError, match=r"keeps tensors in another file \('weights\.bin'\)"):
            take()
    assert not (tmp_path / "edge").exists()


def test_the_doctor_says_so(split_bundle):
    (check,) = [check for check in examine(folder=split_bundle) if check.name == "model.fp32.onnx"]
    assert check.status == "fail"
    assert "keeps tensors in another file" in check.found
