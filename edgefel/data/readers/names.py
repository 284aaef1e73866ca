"""Millions of names in a few bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class PackedNames(Sequence[str]):
    """Strings as one run of UTF-8 bytes: a list of a million paths takes ten times as much, and so does its pickle.

    data: uint8 [bytes]. ends: int64 [N + 1], where each name begins and the last one ends.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def pack(cls, names: Iterable[str]) -> PackedNames:
        """Of any strings, lone surrogates (undecodable file names) included."""
        data, ends = bytearray(), [0]
        for name in names:
            data += name.encode("utf-8", "surrogateescape")
            ends.append(len(data))
        return cls(np.frombuffer(bytes(data), np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        at = range(len(self))[index]  # counts from the end where negative, and raises IndexError
        return self.data[self.ends[at] : self.ends[at + 1]].tobytes().decode("utf-8", "surrogateescape")
