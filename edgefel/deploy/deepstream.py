"""Configuration of DeepStream's nvinfer element: the network as a secondary classifier of faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgefel.deploy.model_files import LABELS_NAME, check_at_least, checked_path, choose_file
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.files.write import atomic_folder
from edgefel.runtime.manifest import Manifest, read_manifest
from edgefel.runtime.onnx_functions import inlined

CONFIG_NAME = "config_infer_secondary_edgefel.txt"
MODEL_NAME = "model.onnx"
README_NAME = "README.md"
OUTPUT = "probabilities"
# how edgefel resizes, for the README
_RESIZING = {
    "area": "averages areas when it shrinks",
    "antialias": "does so with a filter that widens as it shrinks, as Pillow does",
    "bilinear": "does so too, by OpenCV",
}


@dataclass(frozen=True)
class DeepStreamOptions:
    """How nvinfer runs a bundle.

    precision: fp32, fp16, int8 or int8+fp16; without one, the best for TensorRT (as `Session.open`).
    threshold: probability that the first label must exceed to be attached. max_batch: faces at once.
    gie_id: number of this element. detector_id, face_class: number of the face detector's element, and of its class
    "face"; None takes objects of all classes. min_face: faces with fewer pixels at a side are left out.
    force: take a file that failed its comparison with PyTorch, or whose hash is not the manifest's.
    """

    precision: str | None = None
    threshold: float = 0.0
    max_batch: int = 16
    gie_id: int = 2
    detector_id: int = 1
    face_class: int | None = 0
    min_face: int = 32
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise EdgefelError(
                f"DeepStream threshold is {self.threshold}; give a probability from 0 to below 1"
            )
        check_at_least("DeepStream", self, max_batch=1, gie_id=1, detector_id=1, min_face=1, face_class=0)
        if self.gie_id == self.detector_id:
            raise EdgefelError(
                f"DeepStream gie_id and detector_id are both {self.gie_id}; give each element its own number"
            )


def write_deepstream(bundle: Path, folder: Path, options: DeepStreamOptions | None = None) -> list[Path]:
    """Writes the new folder `folder`: nvinfer's configuration, an ONNX file that takes the pixels nvinfer gives, the
    labels and a README; returns the files.

    Raises MissingDependencyError without the package onnx, and EdgefelError for a file that the bundle lacks or that
    should not be served, labels that nvinfer's format cannot hold, or a `folder` that exists and is not empty.
    """
    options = options or DeepStreamOptions()
    manifest = read_manifest(bundle)
    file = choose_file(manifest, options.precision, "tensorrt", force=options.force)
    labels = _labels_text(manifest)
    source = checked_path(manifest, file, options.force)
    properties = nvinfer_properties(manifest, file.precision, options)
    with atomic_folder(folder) as temporary:
        _write_model(source, manifest, temporary / MODEL_NAME)
        (temporary / LABELS_NAME).write_text(labels, encoding="utf-8")
        config = "".join(f"{name}={value}\n" for name, value in properties.items())
        (temporary / CONFIG_NAME).write_text(f"[property]\n{config}", encoding="utf-8")
        (temporary / README_NAME).write_text(_readme(manifest, file.precision, options), encoding="utf-8")
    return sorted(Path(folder).iterdir())


def nvinfer_properties(manifest: Manifest, precision: str, options: DeepStreamOptions) -> dict[str, str]:
    """The keys of nvinfer's group `property` and their values.

    Source: https://docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvinfer.html
    """
    side = manifest.preprocessing.resize
    properties: dict[str, object] = {
        "gie-unique-id": options.gie_id,
        "process-mode": 2,  # objects of another element
        "network-type": 1,  # classifier
        "classifier-type": "expression",
        "operate-on-gie-id": options.detector_id,
        "onnx-file": MODEL_NAME,
        "model-engine-file": engine_name(options.max_batch),
        "labelfile-path": LABELS_NAME,
        "batch-size": options.max_batch,
        # FP16 and INT8 modes let TensorRT choose types; these files say theirs, and mode 0 adds none
        "network-mode": 0,
        "infer-dims": f"3;{side};{side}",
        "model-color-format": 0,  # RGB
        "net-scale-factor": 1.0,  # y = x: the graph normalises
        "maintain-aspect-ratio": 0,
        "scaling-filter": 1,  # bilinear
        "output-blob-names": OUTPUT,
        "classifier-threshold": options.threshold,
        "classifier-async-mode": 0,
        "input-object-min-width": options.min_face,
        "input-object-min-height": options.min_face,
    }
    if options.face_class is not None:
        properties["operate-on-class-ids"] = options.face_class
    if precision != "fp32":
        properties["strongly-typed"] = 1
    return {name: str(value) for name, value in properties.items()}


def engine_name(max_batch: int) -> str:
    """The engine that nvinfer writes beside the ONNX file on its first start, and looks for on the next."""
    return f"{MODEL_NAME}_b{max_batch}_gpu0_fp32.engine"


def _write_model(source: Path, manifest: Manifest, path: Path) -> None:
    """Pixels in; out the probabilities alone, since nvinfer takes every output for a classifier of its own."""
    try:
        import onnx
    except ImportError:
        raise MissingDependencyError("onnx", "export", "writing a graph for DeepStream") from None
    from edgefel.export.onnx.inputs import pixel_input
    from edgefel.export.onnx.passes import keep_outputs

    # nvinfer builds the engine itself, without our kernels
    graph = onnx.load_from_string(inlined(source.read_bytes()))
    model, _ = keep_outputs(pixel_input(graph, manifest.preprocessing), [OUTPUT])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _labels_text(manifest: Manifest) -> str:
    """nvinfer's label file: a line per classifier, here one, with its classes between semicolons."""
    if wrong := [label for label in manifest.labels if ";" in label or len(label.splitlines()) != 1]:
        raise EdgefelError(
            f"{manifest.folder}: label {wrong[0]!r} cannot stand in nvinfer's label file, which separates labels by "
            "semicolons and lines; rename the class"
        )
    return ";".join(manifest.labels) + "\n"


def _readme(manifest: Manifest, precision: str, options: DeepStreamOptions) -> str:
    recipe = manifest.preprocessing
    text = f"""# {manifest.model.name} ({precision}) in DeepStream

`{CONFIG_NAME}` is a secondary classifier of the faces that the element with `gie-unique-id={options.detector_id}`
finds. Paths in it are relative to it. In a pipeline, after the detector (and a tracker, if any):

    ... ! nvinfer config-file-path=DETECTOR.txt unique-id={options.detector_id} ! nvtracker ... !
        nvinfer config-file-path={CONFIG_NAME} ! nvdsosd ! ...

In `deepstream-app`:

    [secondary-gie0]
    enable=1
    gie-unique-id={options.gie_id}
    operate-on-gie-id={options.detector_id}
    batch-size={options.max_batch}
    config-file={CONFIG_NAME}

The label and its probability come as classifier metadata of each face.

## What the graph takes

RGB pixels 0..255 [N, 3, {recipe.resize}, {recipe.resize}]: the face, resized by nvinfer. The crop of {recipe.crop}, the
stride of {recipe.stride} and the normalisation are in the graph, as nvinfer has one scale for all channels and no crop.

## What differs from edgefel

- nvinfer resizes bilinearly; edgefel {_RESIZING[recipe.resample]}.
- nvinfer stretches the detector's box to a square. edgefel takes a square with the eyes at about 40 % of the height;
  a box that is not square or framed otherwise costs accuracy. Widen boxes in a probe before this element.
- There is no confidence, embedding or smoothing: probabilities only, and only the first label is attached.
"""
    return text if precision == "fp32" else text + _typed_notes(recipe.resize, options.max_batch)


def _typed_notes(side: int, max_batch: int) -> str:
    dims = f"x3x{side}x{side}"
    return f"""
## Precision

The types are in the graph. `strongly-typed=1` makes nvinfer keep them; an nvinfer that does not know the key (it
prints "Unknown or legacy key") would choose types of its own, or fail at quantized nodes. Build the engine first there:

    trtexec --stronglyTyped --onnx={MODEL_NAME} --saveEngine={engine_name(max_batch)} \\
      --minShapes=image:1{dims} --optShapes=image:{max_batch}{dims} --maxShapes=image:{max_batch}{dims}
"""
