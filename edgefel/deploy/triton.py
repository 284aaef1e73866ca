"""A model repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgefel.deploy.model_files import LABELS_NAME, checked_path, choose_file, labels_text
from edgefel.deploy.pbtxt import to_pbtxt
from edgefel.deploy.triton_config import (
    KINDS,
    MODEL_FILES,
    Batching,
    Config,
    Names,
    ensemble_config,
    network_config,
    preprocess_config,
)
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder
from edgefel.runtime.manifest import BundleFile, Manifest, read_manifest

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
        for name in ("max_batch", "instances", "preprocess_instances"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise EdgefelError(f"Triton {name} is {value}; give at least 1")
        if self.queue_delay_us < 0:
            raise EdgefelError(f"Triton queue_delay_us is {self.queue_delay_us}; give 0 or more microseconds")


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
    batching = Batching(
        _max_batch(manifest, file, options), options.preferred_batches, options.queue_delay_us
    )
    if wrong := [size for size in batching.preferred if not 1 <= size <= batching.max_batch]:
        raise EdgefelError(
            f"Triton preferred_batches: {', '.join(map(str, wrong))} is not from 1 to max_batch {batching.max_batch}"
        )
    source = checked_path(manifest, file, options.force)
    configs = _configs(manifest, kind, batching, options)
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


def _configs(manifest: Manifest, kind: str, batching: Batching, options: TritonOptions) -> dict[str, Config]:
    """By the models' names: the network first, then the preprocessing and the ensembles."""
    names = Names.of(options.prefix)
    network = network_config(names.network, manifest, kind, batching, options.device, options.instances)
    preprocess = preprocess_config(
        names.preprocess, manifest, batching.max_batch, options.preprocess_instances
    )
    models = (names.preprocess, names.network)
    ensembles = (
        ensemble_config(name, manifest, batching.max_batch, input_, models)
        for name, input_ in zip((names.faces, names.encoded_faces), preprocess["input"], strict=True)
    )
    return {str(config["name"]): config for config in (network, preprocess, *ensembles)}


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
