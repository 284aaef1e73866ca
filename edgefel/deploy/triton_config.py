"""The configurations of a Triton model repository: network, preprocessing, and the ensembles of both.

Fields and rules: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
and the schema https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.deploy.model_files import LABELS_NAME
from edgefel.deploy.pbtxt import Entries, Enum
from edgefel.deploy.triton_preprocess import DETAILS, ENCODED_FACES, FACES, OUTPUT
from edgefel.runtime.manifest import INPUT_NAME, Manifest

Config = dict[str, Any]
KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
PLATFORMS = {"onnx": "onnxruntime_onnx", "engine": "tensorrt_plan"}
MODEL_FILES = {"onnx": "model.onnx", "engine": "model.plan"}
LABELLED = ("logits", "primary", "probabilities")
# what a face crop is taken to be in warm-up
WARM_UP_SIDE = 112


@dataclass(frozen=True)
class Names:
    """Names of the repository's models, which are those of their folders."""

    network: str
    preprocess: str
    faces: str
    encoded_faces: str

    @classmethod
    def of(cls, prefix: str) -> Names:
        """edgefel_model, edgefel_preprocess and so on."""
        parts = ("model", "preprocess", FACES, ENCODED_FACES)
        return cls(*(f"{prefix}_{part}" for part in parts))


@dataclass(frozen=True)
class Batching:
    """max_batch, and what the server's dynamic batcher does with it."""

    max_batch: int
    preferred: tuple[int, ...] = ()
    queue_delay_us: int = 0

    def fields(self) -> Config:
        """Of `dynamic_batching`."""
        fields: Config = {"preferred_batch_size": self.preferred}
        if self.queue_delay_us:
            fields["max_queue_delay_microseconds"] = self.queue_delay_us
        return fields


def network_config(
    name: str, manifest: Manifest, kind: str, batching: Batching, device: str, instances: int
) -> Config:
    """The ONNX file or the engine itself: the manifest's input and outputs, batched by the server."""
    image = _image_tensor(manifest)
    sizes = sorted({1, *batching.preferred, batching.max_batch})
    return {
        "name": name,
        "platform": PLATFORMS[kind],
        "default_model_filename": MODEL_FILES[kind],
        "max_batch_size": batching.max_batch,
        "input": [{"name": INPUT_NAME, **image}],
        "output": [_output(manifest, output, of_network=True) for output in manifest.outputs],
        "version_policy": {"specific": {"versions": [1]}},
        "instance_group": [{"count": instances, "kind": Enum(KINDS[device])}],
        "dynamic_batching": batching.fields(),
        "model_warmup": [_warm_up(size, INPUT_NAME, image) for size in sizes],
    }


def preprocess_config(name: str, manifest: Manifest, max_batch: int, instances: int) -> Config:
    """Python, with an input of raw crops and one of compressed ones, of which a request gives one.

    Requests with crops of different sizes go into one batch, as the Python backend never concatenates them.
    """
    details = (json.dumps(manifest.preprocessing.to_dict()), manifest.input_type)
    faces = {"data_type": Enum("TYPE_UINT8"), "dims": [-1, -1, 3]}
    warm_up = {**faces, "dims": [WARM_UP_SIDE, WARM_UP_SIDE, 3]}
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": [
            {"name": FACES, **faces, "allow_ragged_batch": True, "optional": True},
            {"name": ENCODED_FACES, "data_type": Enum("TYPE_STRING"), "dims": [1], "optional": True},
        ],
        "output": [{"name": OUTPUT, **_image_tensor(manifest)}],
        "version_policy": {"specific": {"versions": [1]}},
        "instance_group": [{"count": instances, "kind": Enum("KIND_CPU")}],
        "dynamic_batching": {},
        "parameters": Entries(
            {key: {"string_value": value} for key, value in zip(DETAILS, details, strict=True)}
        ),
        "model_warmup": [_warm_up(1, FACES, warm_up)],
    }


def ensemble_config(
    name: str, manifest: Manifest, max_batch: int, input_: Mapping[str, Any], models: tuple[str, str]
) -> Config:
    """`input_`, one of the inputs of the model `preprocess`, through both models; outputs as the manifest has them."""
    between = "preprocessed"
    preprocess, network = models
    tensor = {key: input_[key] for key in ("name", "data_type", "dims")}
    steps = [
        _step(preprocess, {tensor["name"]: tensor["name"]}, {OUTPUT: between}),
        _step(network, {INPUT_NAME: between}, {output: output for output in manifest.outputs}),
    ]
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": max_batch,
        "input": [tensor],
        "output": [_output(manifest, output, of_network=False) for output in manifest.outputs],
        "ensemble_scheduling": {"step": steps},
    }


def _image_tensor(manifest: Manifest) -> Config:
    data_type = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}[manifest.input_type]
    return {"data_type": Enum(data_type), "dims": list(manifest.input_shape[1:])}


def _output(manifest: Manifest, name: str, *, of_network: bool) -> Config:
    width = {"confidence": 1, "embedding": manifest.model.embedding_dim}.get(name, manifest.model.num_classes)
    output: Config = {"name": name, "data_type": Enum("TYPE_FP32"), "dims": [width]}
    if name == "confidence" and of_network:
        # the network's tensor is [N]; Triton has no tensors without dimensions beside the batch
        output["reshape"] = {"shape": []}
    if name in LABELLED:
        output["label_filename"] = LABELS_NAME
    return output


def _warm_up(size: int, name: str, tensor: Mapping[str, Any]) -> Config:
    inputs = Entries({name: {**tensor, "zero_data": True}})
    return {"name": f"batch of {size}", "batch_size": size, "inputs": inputs}


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Config:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": Entries(inputs),
        "output_map": Entries(outputs),
    }
