"""A stand-in for `triton_python_backend_utils`, which exists inside Triton Inference Server alone.

It has what edgefel's model uses of it, as the Python backend's README describes it: tensors with a name, requests
that hold them, responses with tensors or an error. Transport, batching and memory are the server's and are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

CODES = {"INTERNAL", "INVALID_ARG"}


@dataclass(frozen=True)
class Tensor:
    name_: str
    array: np.ndarray

    def name(self) -> str:
        return self.name_

    def as_numpy(self) -> np.ndarray:
        return self.array


class TritonError:
    INTERNAL, INVALID_ARG = "INTERNAL", "INVALID_ARG"

    def __init__(self, message: str, code: str = INTERNAL) -> None:
        assert code in CODES
        self.text, self.code_ = message, code

    def message(self) -> str:
        return self.text

    def code(self) -> str:
        return self.code_


@dataclass(frozen=True)
class InferenceRequest:
    tensors: Sequence[Tensor]

    def inputs(self) -> Sequence[Tensor]:
        return self.tensors


@dataclass(frozen=True)
class InferenceResponse:
    output_tensors: Sequence[Tensor] = ()
    error: TritonError | None = field(default=None)

    def has_error(self) -> bool:
        return self.error is not None


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)
