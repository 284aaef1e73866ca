"""Weight files in the shapes that trainers leave them in: what is found, and that nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import io
import pathlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgefel.errors import EdgefelError
from edgefel.models.pickles import read_contents
from edgefel.models.published import _prefixes

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b.count": torch.tensor(7)}


def saved(content: object, folder: Path, **options: object) -> Path:
    torch.save(content, folder / "file.pth", **options)
    return folder / "file.pth"


def found(file: Path) -> list[dict[str, torch.Tensor]]:
    """Every set of tensors in a file, without each of the prefixes that are tried."""
    return [
        {key.removeprefix(prefix): value for key, value in one.tensors.items()}
        for one in read_contents(file).sets
        for prefix in _prefixes(one.tensors)
    ]


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": prefixed("module.")},
        {"state_dict": prefixed("_orig_mod.")},
        {"state_dict": prefixed("module._orig_mod.")},
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.1.0"},
        {"model_state_dict": WEIGHTS, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(9)}}}},
        {"net": WEIGHTS, "acc": torch.tensor(0.9)},
        {"state_dict_ema": prefixed("module."), "epoch": 3},
        {"checkpoint": {"model": {"state_dict": WEIGHTS}}},
        {"ema": {"module": WEIGHTS}},
        {"state_dict": {key: value.numpy() for key, value in WEIGHTS.items()}},
        {"state_dict": {key: torch.nn.Parameter(value, False) for key, value in WEIGHTS.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_weights_are_found(content, zipped, tmp_path):
    file = saved(content, tmp_path, _use_new_zipfile_serialization=zipped)
    (tensors,) = (one for one in found(file) if set(one) == set(WEIGHTS))
    for key, value in WEIGHTS.items():
        assert torch.equal(tensors[key], value)


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    (only,) = read_contents(tmp_path / "w.safetensors").sets
    assert torch.equal(only.tensors["a.weight"], WEIGHTS["a.weight"])
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(EdgefelError, match="cannot be read"):
        read_contents(tmp_path / "w.safetensors")


@pytest.mark.parametrize("code", ["<f2", "<f4", "<f8", ">f4", ">f8", "<i8", "|u1", "|b1"])
def test_numpy_arrays_keep_their_values(code, tmp_path):
    matrix = np.arange(6).reshape(2, 3).astype(code)
    content = {"c": matrix, "f": np.asfortranarray(matrix), "empty": matrix[:0], "scalar": matrix[1, 2]}
    tensors = read_contents(saved(content, tmp_path)).sets[0].tensors
    for key, value in content.items():
        assert tensors[key].shape == value.shape
        np.testing.assert_array_equal(tensors[key].numpy(), value)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([{}, None], dtype=object), "Python objects"),
        (np.array(["a", "b"]), "the type 'U1'"),
        (np.zeros(2, [("x", "f4")]), "the type 'V4'"),
        (np.zeros(2, "c8"), "the type 'c8'"),
    ],
)
def test_other_arrays_are_no_weights(array, kind, tmp_path):
    with pytest.raises(EdgefelError, match=f"holds no weights; its entries: w is a NumPy array of {kind}"):
        read_contents(saved({"w": array}, tmp_path))
    beside = read_contents(saved({"state_dict": WEIGHTS, "history": array}, tmp_path))
    assert "history" in beside.sets[0].unusable  # beside the weights they do no harm


class Calls:
    """Pickles as a call of anything with any arguments."""

    def __init__(self, function: object, *arguments: object, state: object = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts if self.parts[2] is not None else self.parts[:2]


@pytest.mark.parametrize(
    "evil",
    [
        Calls(exec, "raise SystemExit('code was run')"),
        Calls(pathlib.Path.unlink, pathlib.Path("x")),
        Calls(np.load, "x.npy"),
    ],
)
def test_code_is_refused_by_name_and_not_run(evil, tmp_path):
    with pytest.raises(
        EdgefelError, match=r"holds pickled code \([\w.]+\) besides weights, which is never run"
    ):
        read_contents(saved({"state_dict": WEIGHTS, "extra": evil}, tmp_path))


def test_crafted_arrays_are_refused(tmp_path):
    """States that NumPy itself would take bytes for addresses or read beyond them by."""
    rebuild = np.zeros(0).__reduce__()[0]
    start = (np.ndarray, (0,), b"b")
    for shape, data in [((4,), b"\0" * 8), ((2**40,), b""), ((-1,), b"\0" * 4), (3, b""), ((2,), [1, 2])]:
        evil = Calls(rebuild, *start, state=(1, shape, np.dtype("f4"), False, data))
        with pytest.raises(EdgefelError, match="cannot be read"):
            read_contents(saved({"w": evil}, tmp_path))
    objects = Calls(rebuild, *start, state=(1, (1,), np.dtype("O"), False, b"\1\2\3\4\5\6\7\0"))
    with pytest.raises(EdgefelError, match="Python objects"):
        read_contents(saved({"w": objects}, tmp_path))


def test_harmless_objects_beside_the_weights_are_ignored(tmp_path):
    content = {
        "state_dict": WEIGHTS,
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("x")),
        "history": collections.defaultdict(list, {"loss": [1.0]}),
        "best": np.float64(3.0),
    }
    assert set(WEIGHTS) in map(set, found(saved(content, tmp_path)))


def test_what_holds_no_weights_lists_its_entries(tmp_path):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    with pytest.raises(EdgefelError, match=r"holds no weights; its entries: state, param_groups$"):
        read_contents(saved(optimizer.state_dict(), tmp_path))
    many = {f"entry{number}": number for number in range(30)}
    with pytest.raises(EdgefelError, match=r"entry0, .*entry11 and 18 more$"):
        read_contents(saved(many, tmp_path))
    with pytest.raises(EdgefelError, match="holds a list"):
        read_contents(saved([WEIGHTS], tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        {"meta": {"CLASSES": ["Happy", "Sad"]}},
        {"classes": ("Happy", "Sad")},
        {"hyper_parameters": {"class_to_idx": {"Sad": 1, "Happy": 0}}},
        {"config": {"id2label": {"0": "Happy", "1": "Sad"}}},
        {"idx_to_class": {1: "Sad", 0: "Happy"}, "meta": {"CLASSES": ["other"]}},
    ],
)
def test_names_of_classes(names, tmp_path):
    assert read_contents(saved({"state_dict": WEIGHTS, **names}, tmp_path)).classes == ("Happy", "Sad")


@pytest.mark.parametrize(
    "names",
    [{}, {"classes": 7}, {"labels": [0, 1]}, {"classes": ["1", "2"]}, {"class_to_idx": {"a": 0, "b": 5}}],
)
def test_what_names_no_classes(names, tmp_path):
    assert read_contents(saved({"state_dict": WEIGHTS, **names}, tmp_path)).classes == ()


def test_truncated_and_foreign_files(tmp_path):
    file = saved({"state_dict": WEIGHTS}, tmp_path)
    whole = file.read_bytes()
    plain, archive = io.BytesIO(), io.BytesIO()
    pickle.dump({"a": 1}, plain)
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("x", "y")
    for content in (b"", whole[: len(whole) // 2], b"text", plain.getvalue(), archive.getvalue()):
        file.write_bytes(content)
        with pytest.raises(EdgefelError, match="cannot be read|holds no weights"):
            read_contents(file)
    with pytest.raises(EdgefelError, match="no such file"):
        read_contents(tmp_path / "absent.pth")
    with pytest.raises(EdgefelError, match="is not a file"):
        read_contents(tmp_path)
