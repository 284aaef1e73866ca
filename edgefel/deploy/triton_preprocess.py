"""The model `preprocess` of a Triton model repository: face crops in, the network's input out.

Triton's Python backend loads a copy of this file as `model.py`. It computes with the copy of
`edgefel.data.preprocessing` that lies beside it, whatever edgefel is installed: the server needs NumPy and
OpenCV alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
if (_HERE / "edgefel").is_dir():  # in a model repository
    sys.path.insert(0, str(_HERE))
    # a compressed image of a few bytes can ask for gigabytes; OpenCV reads the limit when it is imported
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from edgefel.data.preprocessing import Image, Preprocessing  # noqa: E402
from edgefel.errors import EdgefelError  # noqa: E402

FACES, ENCODED_FACES, OUTPUT = "faces", "encoded_faces", "image"
DETAILS = "preprocessing", "input_type"


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the preprocessing from the parameters of this model's configuration."""
        # only the server has it
        import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

        self._pb = pb_utils
        parameters = json.loads(args["model_config"])["parameters"]
        preprocessing, input_type = (parameters[name]["string_value"] for name in DETAILS)
        recipe = Preprocessing.from_dict(json.loads(preprocessing))
        self._make_batch = recipe.pixel_batch if input_type == "uint8" else recipe.batch

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response per request, in order; one that cannot be answered does not stop the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            tensor = self._pb.Tensor(OUTPUT, self._make_batch(self._crops(request)))
        except EdgefelError as error:
            problem = self._pb.TritonError(str(error), self._pb.TritonError.INVALID_ARG)
            return self._pb.InferenceResponse(output_tensors=[], error=problem)
        return self._pb.InferenceResponse(output_tensors=[tensor])

    def _crops(self, request: Any) -> list[Image]:
        """uint8 RGB [H, W, 3] each."""
        given = {name: self._pb.get_input_tensor_by_name(request, name) for name in (FACES, ENCODED_FACES)}
        given = {name: tensor for name, tensor in given.items() if tensor is not None}
        if len(given) != 1:
            raise EdgefelError(f"give {FACES} or {ENCODED_FACES}, one of the two")
        ((name, tensor),) = given.items()
        rows = tensor.as_numpy()
        if name == FACES:
            return list(rows)
        return [_decode(content, index) for index, content in enumerate(rows.reshape(-1))]


def _decode(content: bytes, index: int) -> Image:
    """The bytes of a JPEG, PNG, ... -> uint8 RGB [H, W, 3], turned as its EXIF says."""
    problem = "not an image that OpenCV reads"
    image = None
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error as error:  # such as more pixels than the limit
        problem = f"which OpenCV refuses ({error.err})"
    if image is None:
        raise EdgefelError(
            f"{ENCODED_FACES}[{index}]: {len(content)} bytes, {problem}; send a whole JPEG or PNG"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
