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

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

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
            reason = " ".join(str(error).split())
            raise EdgefelError(f"{path}: ONNX Runtime cannot load it ({reason}); export it again") from error
        return cls(session)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self._session.get_inputs())

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self._session.get_outputs())

    def run(self, batch: Tensor) -> Mapping[str, npt.NDArray[Any]]:
        """float32 [N, 3, H, W] -> every output by name."""
        names = self.output_names
        return dict(zip(names, self._session.run(names, {INPUT_NAME: batch}), strict=True))

    def close(self) -> None:
        del self._session
