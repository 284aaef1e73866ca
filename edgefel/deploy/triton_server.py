"""A model repository for NVIDIA Triton Inference Server: network, preprocessing, and ensembles of both.

Fields of the configurations and their rules:
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
and the schema https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgefel.deploy.model_files import LABELS_NAME, check_at_least, checked_path, choose_file, labels_text
from edgefel.deploy.pbtxt import Entries, Enum, to_pbtxt
from edgefel.deploy.triton_preprocess import DETAILS, ENCODED_FACES, FACES, OUTPUT
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder
from edgefel.runtime.manifest import INPUT_NAME, BundleFile, Manifest, read_manifest

Config = dict[str, Any]
KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
PLATFORMS = {"onnx": "onnxruntime_onnx", "engine": "tensorrt_plan"}
MODEL_FILES = {"onnx": "model.onnx", "engine": "model.plan"}
LABELLED = ("logits", "primary", "probabilities")
# what a face crop is taken to be in warm-up
WARM_UP_SIDE = 112
DEFAULT_MAX_BATCH = 16
# what the preprocessing imports of edgefel; the server has a copy and needs no edgefel installed
VENDORED = ("__init__.py", "errors.py", "data/__init__.py", "data/preprocessing.py")


@dataclass(frozen=True)
class TritonOptions:
    """How a bundle is served.

    precision: fp32, fp16, int8 or int8+fp16; without one, the best for the device (as `Session.open`).
    engine: serve the bundle's TensorRT engine instead of an ONNX file. prefix: of the models' names.
    max_batch: largest batch of the network; without one 16, or what the engine was built for. preferred_batches:
    sizes that the server tries to reach while it waits `queue_delay_us` microseconds for further requests.
    device: "auto" is a GPU where the server has one. instances: copies of the network per device.
    preprocess_instances: processes that preprocess.
    force: take a file that failed its comparison with PyTorch, or whose hash is not the manifest's.
    """

    precision: str | None = None
    engine: bool = False
    prefix: str = "edgefel"
    max_batch: int | None = None
    preferred_batches: tuple[int, ...] = ()
    queue_delay_us: int = 500
    device: str = "auto"
    instances: int = 1
    preprocess_instances: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "preferred_batches", tuple(self.preferred_batches))
        if self.device not in KINDS:
            raise EdgefelError(f"Triton device {self.device!r}; choose one of {', '.join(KINDS)}")
        if self.engine and self.device == "cpu":
            raise EdgefelError(
                "Triton: a TensorRT engine runs on a GPU; choose another device, or the ONNX file"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.prefix):
            raise EdgefelError(
                f"Triton prefix {self.prefix!r}: models are named after it; use letters, digits, '_', '-' and '.'"
            )
        check_at_least("Triton", self, max_batch=1, instances=1, preprocess_instances=1, queue_delay_us=0)


def write_triton_repository(bundle: Path, folder: Path, options: TritonOptions | None = None) -> list[Path]:
    """Writes the repository as the new folder `folder`; returns its files.

    Models: PREFIX_faces (uint8 crops) and PREFIX_encoded_faces (JPEG, PNG) are ensembles of PREFIX_preprocess and
    PREFIX_model. Raises EdgefelError for a file that the bundle lacks or that should not be served, an engine that
    Triton cannot load, batch sizes that do not fit, or a `folder` that exists and is not empty.
    """
    options = options or TritonOptions()
    manifest = read_manifest(bundle)
    kind = "engine" if options.engine else "onnx"
    backend = (
        "tensorrt" if options.engine else "onnxruntime" if options.device == "cpu" else "onnxruntime-cuda"
    )
    file = choose_file(manifest, options.precision, backend, kind, force=options.force)
    max_batch = _max_batch(manifest, file, options)
    if wrong := [size for size in options.preferred_batches if not 1 <= size <= max_batch]:
        raise EdgefelError(
            f"Triton preferred_batches: {', '.join(map(str, wrong))} is not from 1 to max_batch {max_batch}"
        )
    source = checked_path(manifest, file, options.force)
    configs = _configs(manifest, kind, max_batch, options)
    network, preprocess, *ensembles = configs
    with atomic_folder(folder) as temporary:
        for name, config in configs.items():
            _write(temporary / name / "config.pbtxt", to_pbtxt(config))
            if name != preprocess:
                _write(temporary / name / LABELS_NAME, labels_text(manifest))
        for name in ensembles:
            # the server asks for a folder of the version, and many a copy loses an empty one
            _write(temporary / name / "1" / ".keep", "")
        (temporary / network / "1").mkdir()
        shutil.copyfile(source, temporary / network / "1" / MODEL_FILES[kind])
        _write_preprocess(temporary / preprocess / "1")
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def _configs(manifest: Manifest, kind: str, max_batch: int, options: TritonOptions) -> dict[str, Config]:
    """By the models' names: the network first, then the preprocessing and an ensemble for each of its inputs."""
    network, preprocess = f"{options.prefix}_model", f"{options.prefix}_preprocess"
    configs = {
        network: network_config(network, manifest, kind, max_batch, options),
        preprocess: preprocess_config(preprocess, manifest, max_batch, options.preprocess_instances),
    }
    for tensor in configs[preprocess]["input"]:
        name = f"{options.prefix}_{tensor['name']}"
        configs[name] = ensemble_config(name, manifest, max_batch, tensor, (preprocess, network))
    return configs


def _max_batch(manifest: Manifest, file: BundleFile, options: TritonOptions) -> int:
    if file.kind != "engine":
        return options.max_batch or DEFAULT_MAX_BATCH
    built = file.builder or {}
    where = f"{manifest.folder / file.name}"
    if built.get("package") != "tensorrt":
        raise EdgefelError(
            f"{where}: built with {built.get('package') or 'an unknown TensorRT'}, and Triton loads engines of full "
            "TensorRT alone; run 'edgefel engine' where the server's TensorRT is installed, or serve the ONNX file"
        )
    smallest, largest = (built.get("batch", {}).get(name) for name in ("min", "max"))
    if smallest != 1 or not isinstance(largest, int):
        raise EdgefelError(
            f"{where}: built for batches of {smallest} to {largest}; Triton needs 1 upwards, so build it again "
            "with 'edgefel engine --min-batch 1'"
        )
    if (options.max_batch or 1) > largest:
        raise EdgefelError(
            f"{where}: built for batches up to {largest}, not {options.max_batch}; lower max_batch, or build it "
            f"again with 'edgefel engine --max-batch {options.max_batch}'"
        )
    return options.max_batch or largest


def _write_preprocess(version: Path) -> None:
    """The Python model and the part of edgefel that it computes with, byte for byte."""
    package = resources.files("edgefel")
    copies = {"model.py": package / "deploy" / "triton_preprocess.py"}
    copies |= {f"edgefel/{name}": package.joinpath(*name.split("/")) for name in VENDORED}
    for name, source in copies.items():
        _write(version / name, source.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def network_config(
    name: str, manifest: Manifest, kind: str, max_batch: int, options: TritonOptions
) -> Config:
    """The ONNX file or the engine itself: the manifest's input and outputs, batched by the server."""
    image = _image_tensor(manifest)
    sizes = sorted({1, *options.preferred_batches, max_batch})
    batching: Config = {"preferred_batch_size": options.preferred_batches}
    if options.queue_delay_us:
        batching["max_queue_delay_microseconds"] = options.queue_delay_us
    return {
        "name": name,
        "platform": PLATFORMS[kind],
        "default_model_filename": MODEL_FILES[kind],
        "max_batch_size": max_batch,
        "input": [{"name": INPUT_NAME, **image}],
        "output": [_output(manifest, output, of_network=True) for output in manifest.outputs],
        "version_policy": {"specific": {"versions": [1]}},
        "instance_group": [{"count": options.instances, "kind": Enum(KINDS[options.device])}],
        "dynamic_batching": batching,
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
