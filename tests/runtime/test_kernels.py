"""Folders of compiled kernels: what is read, refused, and handed to the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.files.write import sha256
from edgefel.runtime.kernels import KernelFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `edgefel kernels compile` writes it, with two targets."""
    rows = []
    for arch in ("sm_87", "sm_110"):
        place = tmp_path / arch
        place.mkdir()
        (place / "balance.cubin").write_bytes(f"code for {arch}".encode())
        description = {
            "name": "balance",
            "arch": arch,
            "entry": "forward_kernel",
            "arguments": [
                {"name": "e_ptr", "type": "fp32", "kind": "pointer"},
                {"name": "out_ptr", "type": "fp32", "kind": "pointer"},
                {"name": "global_scratch", "kind": "null pointer"},
                {"name": "profile_scratch", "kind": "null pointer"},
            ],
            "grid": {"x": {"programs_per_image": 26}, "y": 1, "z": 1},
            "block": {"x": 128, "y": 1, "z": 1},
            "dynamic_shared_bytes": 12288,
            "cubin_sha256": sha256(place / "balance.cubin"),
        }
        (place / "balance.json").write_text(json.dumps(description))
        rows.append({"name": "balance", "arch": arch})
    index = {"format": "edgefel-kernels", "version": 1, "model": "arbex", "kernels": rows}
    (tmp_path / "kernels.json").write_text(json.dumps(index))
    return tmp_path


def test_a_folder_lists_its_kernels_and_targets(folder):
    kernels = KernelFolder.open(folder)
    assert kernels.model == "arbex"
    assert kernels.names == ["balance"]
    assert kernels.archs == ["sm_87", "sm_110"]
    file = kernels.file("balance", "sm_110")
    assert file.cubin.read_bytes() == b"code for sm_110"
    assert (file.threads, file.shared, file.nulls) == (128, 12288, 2)


def test_the_grid_grows_with_the_batch(folder):
    file = KernelFolder.open(folder).file("balance", "sm_87")
    assert file.grid(1) == (26, 1, 1)
    assert file.grid(64) == (26 * 64, 1, 1)
    for batch in (0, -1, 2**31):
        with pytest.raises(ValueError, match=f"batch: expected 1 to 82595524, got {batch}"):
            file.grid(batch)


def test_pointers_are_packed_with_the_null_ones_behind(folder):
    file = KernelFolder.open(folder).file("balance", "sm_87")
    packed = file.pack([np.uint64(0x7F00), 0x8000])
    assert packed == [0x7F00, 0x8000, 0, 0]
    assert all(isinstance(value, np.uintp) for value in packed)


def test_wrong_pointers_are_named_before_any_launch(folder):
    file = KernelFolder.open(folder).file("balance", "sm_87")
    with pytest.raises(ValueError, match=r"balance: expected 2 pointers \(e_ptr, out_ptr\), got 3"):
        file.pack([16, 32, 48])
    with pytest.raises(ValueError, match="out_ptr: expected an address divisible by 16, got 0x24"):
        file.pack([16, 36])


def test_what_is_not_there_is_said_with_what_is(folder):
    kernels = KernelFolder.open(folder)
    with pytest.raises(EdgefelError, match="no kernel 'attention'; it has: balance"):
        kernels.file("attention", "sm_87")
    with pytest.raises(
        EdgefelError, match="no kernels for sm_90, only for sm_87, sm_110; compile them with: .*sm_90"
    ):
        kernels.file("balance", "sm_90")


def test_a_changed_cubin_is_refused(folder):
    (folder / "sm_87" / "balance.cubin").write_bytes(b"something else")
    with pytest.raises(EdgefelError, match="is not the file that balance.json describes"):
        KernelFolder.open(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("kernels.json", None, "no such file"),
        ("kernels.json", "{", "not valid JSON"),
        ("kernels.json", "[]", "not an index of compiled kernels"),
        ("kernels.json", '{"format": "edgefel-kernels", "version": 9}', "version 9, this edgefel reads 1"),
        ("sm_87/balance.json", "{}", "does not describe a kernel"),
        ("sm_87/balance.cubin", None, "no such file; compile the kernels again"),
    ],
)
def test_a_broken_folder_is_an_error_that_names_the_file(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(EdgefelError, match=message) as caught:
        KernelFolder.open(folder)
    assert file in str(caught.value)


def test_without_pycuda_loading_says_how_to_get_it(folder):
    try:
        import pycuda  # noqa: F401
    except ImportError:
        with pytest.raises(EdgefelError, match=r"pycuda.*edgefel\[jetson\]"):
            KernelFolder.open(folder).load("balance")
    else:
        pytest.skip("pycuda is installed: tests/gpu launches kernels")


def test_reading_needs_neither_torch_nor_triton(folder):
    code = (
        "import sys; from edgefel.runtime.kernels import KernelFolder; "
        f"KernelFolder.open({str(folder)!r}).file('balance', 'sm_87').pack([16, 32]); "
        "assert not {'torch', 'triton', 'pycuda'} & set(sys.modules), sorted(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
