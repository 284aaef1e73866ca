"""Kernels that were compiled elsewhere (`edgefel kernels compile`), launched through the CUDA driver.

    kernels = KernelFolder.open("compiled")
    balance = kernels.load("reliability_balance")           # needs pycuda and a CUDA context
    balance(batch, logits, e, anchors, attentive, probabilities, confidence, primary, stream=stream)

Needs neither torch nor Triton. The kernel's JSON file describes its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import sha256
from edgefel.runtime.backends.cuda import import_pycuda

FORMAT = "edgefel-kernels"
VERSION = 1
INDEX = "kernels.json"
# what the compiler assumed of every pointer; cudaMalloc gives 256
ALIGNMENT = 16
# more than this has to be asked for, CUDA programming guide, "Shared memory"
_FREE_SHARED = 48 * 1024
_LARGEST_GRID = 2**31 - 1


@dataclass(frozen=True)
class KernelFile:
    """How one kernel is launched. arguments: names of the pointers that a caller gives; nulls: how many pointers
    behind them must be null; threads per block; shared: dynamic shared memory, bytes; constants: sizes and numbers
    that it was compiled for, by the names in its source."""

    name: str
    arch: str
    entry: str
    cubin: Path
    arguments: tuple[str, ...]
    nulls: int
    programs_per_image: int
    threads: int
    shared: int
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ptx(self) -> Path:
        """The PTX of the same kernel."""
        return self.cubin.with_suffix(".ptx")

    def grid(self, batch: int) -> tuple[int, int, int]:
        """The grid for `batch` images; raises ValueError where there is none."""
        programs = self.programs_per_image * batch
        if not 1 <= programs <= _LARGEST_GRID:
            raise ValueError(f"batch: expected 1 to {_LARGEST_GRID // self.programs_per_image}, got {batch}")
        return programs, 1, 1

    def pack(self, pointers: Sequence[Any]) -> list[np.uintp]:
        """Addresses as the driver takes them, the null pointers behind them.

        Raises ValueError for a wrong number of pointers, or one that is not aligned to 16 bytes.
        """
        if len(pointers) != len(self.arguments):
            raise ValueError(
                f"{self.name}: expected {len(self.arguments)} pointers ({', '.join(self.arguments)}), "
                f"got {len(pointers)}"
            )
        addresses = [int(pointer) for pointer in pointers]
        for name, address in zip(self.arguments, addresses, strict=True):
            if address % ALIGNMENT:
                raise ValueError(f"{name}: expected an address divisible by {ALIGNMENT}, got {address:#x}")
        return [np.uintp(address) for address in (*addresses, *[0] * self.nulls)]


_SHAPE = {
    **dict.fromkeys(("name", "arch", "entry", "cubin_sha256"), str),
    "arguments": [{"kind": str, "name": str}],
    "grid": {"x": {"programs_per_image": int}},
    "block": {"x": int},
    "dynamic_shared_bytes": int,
    "constants?": dict,
}


@dataclass(frozen=True)
class KernelFolder:
    """A folder of compiled kernels, read and checked; nothing of CUDA is touched until `load`. files: by name and
    target."""

    path: Path
    model: str
    files: Mapping[tuple[str, str], KernelFile]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> KernelFolder:
        """Reads a folder; raises EdgefelError for one that is missing, incomplete or changed."""
        path = Path(folder)
        index = read_json(path / INDEX)
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise EdgefelError(f"{path / INDEX}: is not an index of compiled kernels")
        if index.get("version") != VERSION:
            raise EdgefelError(
                f"{path / INDEX}: version {index.get('version')}, this edgefel reads {VERSION}; "
                "compile the kernels again"
            )
        check_shape(index, {"model": str, "kernels": [{"arch": str, "name": str}]}, str(path / INDEX))
        files = {}
        for row in index["kernels"]:
            file = _read(path / row["arch"] / f"{row['name']}.json")
            files[file.name, file.arch] = file
        return cls(path, index["model"], files)

    @property
    def names(self) -> list[str]:
        """Names of the kernels."""
        return list(dict.fromkeys(name for name, _ in self.files))

    @property
    def archs(self) -> list[str]:
        """Targets, e.g. "sm_87"."""
        return list(dict.fromkeys(arch for _, arch in self.files))

    def file(self, name: str, arch: str) -> KernelFile:
        """One kernel for one target; raises EdgefelError, with what there is, if it is not here."""
        if name not in self.names:
            raise EdgefelError(f"{self.path}: has no kernel '{name}'; it has: {', '.join(self.names)}")
        if (name, arch) not in self.files:
            raise EdgefelError(
                f"{self.path}: has no kernels for {arch}, only for {', '.join(self.archs)}; "
                f"compile them with: edgefel kernels compile --arch {arch}"
            )
        return self.files[name, arch]

    def load(self, name: str) -> LoadedKernel:
        """Loads a kernel into the current CUDA context (pycuda's), for that context's device.

        Raises EdgefelError where pycuda or a context is missing, or the folder has nothing for the device.
        """
        driver = import_pycuda()
        if driver.Context.get_current() is None:
            raise EdgefelError(
                "no CUDA context on this thread; make one, e.g. with: import pycuda.autoprimaryctx"
            )
        major, minor = driver.Context.get_device().compute_capability()
        return LoadedKernel(self.file(name, f"sm_{major}{minor}"), driver)


class LoadedKernel:
    """A kernel in a CUDA context. Call it with the batch size and device addresses."""

    def __init__(self, file: KernelFile, driver: Any) -> None:
        self.file = file
        self._module = driver.module_from_buffer(file.cubin.read_bytes())
        self._function = self._module.get_function(file.entry)
        if file.shared > _FREE_SHARED:
            attribute = driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._function.set_attribute(attribute, file.shared)

    def __call__(self, batch: int, *pointers: Any, stream: Any = None) -> None:
        """Launches on `stream` (the default one if None) and does not wait.

        pointers: device addresses, as integers or pycuda allocations, in the order of `file.arguments`.
        """
        self._function(
            *self.file.pack(pointers),
            block=(self.file.threads, 1, 1),
            grid=self.file.grid(batch),
            shared=self.file.shared,
            stream=stream,
        )


def _read(path: Path) -> KernelFile:
    try:
        data = read_json(path, _SHAPE)
    except EdgefelError as error:
        raise EdgefelError(f"{error}: does not describe a kernel; compile it again") from None
    pointers = [argument for argument in data["arguments"] if argument["kind"] == "pointer"]
    file = KernelFile(
        name=data["name"],
        arch=data["arch"],
        entry=data["entry"],
        cubin=path.with_suffix(".cubin"),
        arguments=tuple(argument["name"] for argument in pointers),
        nulls=len(data["arguments"]) - len(pointers),
        programs_per_image=data["grid"]["x"]["programs_per_image"],
        threads=data["block"]["x"],
        shared=data["dynamic_shared_bytes"],
        constants=data.get("constants") or {},
    )
    if not file.cubin.is_file():
        raise EdgefelError(f"{file.cubin}: no such file; compile the kernels again")
    if sha256(file.cubin) != data["cubin_sha256"]:
        raise EdgefelError(
            f"{file.cubin}: is not the file that {path.name} describes; compile the kernels again"
        )
    return file
