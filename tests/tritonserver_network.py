"""The network of a Triton repository as a Python model, for a tritonserver without the backend of ONNX Runtime.

As that backend it refuses a configuration that does not fit the file, and runs the requests of a batch as one.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8"}


def described(tensor):
    """Name, type and shape without the batch, of an entry of the configuration."""
    dims = tensor.get("reshape", {"shape": tensor["dims"]})["shape"]
    return tensor["name"], tensor["data_type"], [int(size) for size in dims]


def in_file(value):
    return value.name, TYPES[value.type], list(value.shape[1:])


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.network = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for tensors, file in (
            (config["input"], self.network.get_inputs()),
            (config["output"], self.network.get_outputs()),
        ):
            wrong = sorted(map(described, tensors)), sorted(map(in_file, file))
            if wrong[0] != wrong[1]:
                raise backend.TritonModelException("configured as {}, and the file has {}".format(*wrong))

    def execute(self, requests):
        (image,) = self.network.get_inputs()
        batches = [backend.get_input_tensor_by_name(request, image.name).as_numpy() for request in requests]
        names = [output.name for output in self.network.get_outputs()]
        found = self.network.run(names, {image.name: np.concatenate(batches)})
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        parts = zip(*(np.split(values, ends) for values in found), strict=True)
        return [
            backend.InferenceResponse([backend.Tensor(*tensor) for tensor in zip(names, values, strict=True)])
            for values in parts
        ]
