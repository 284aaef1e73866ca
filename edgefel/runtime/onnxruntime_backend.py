"""ONNX files on the CPU by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.runtime.preprocessing import Tensor


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU provider with all graph optimisations."""

    def __init__(self, session: onnxruntime.InferenceSession, path: Path) -> None:
        self._session = session
        self._path = path

    @classmethod
    def open(cls, path: Path, *, threads: int) -> OnnxRuntimeBackend:
        """Loads the file with that many threads per call; raises EdgefelError if it cannot be loaded."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes have no public base
            raise EdgefelError(
                f"{path}: ONNX Runtime cannot load it ({_line(error)}); export it again"
            ) from error
        return cls(session, path)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self._session.get_inputs())

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self._session.get_outputs())

    def run(self, batch: Tensor) -> Mapping[str, npt.NDArray[Any]]:
        """float32 [N, 3, H, W] -> every output by name."""
        names = self.output_names
        try:
            values = self._session.run(names, {INPUT_NAME: batch})
        except Exception as error:
            raise EdgefelError(
                f"{self._path}: ONNX Runtime cannot run it on {list(batch.shape)} ({_line(error)}); export it again"
            ) from error
        return dict(zip(names, values, strict=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
