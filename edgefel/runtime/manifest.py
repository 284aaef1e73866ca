"""The manifest of an exported bundle: what is in the folder, and what the files promise. Torch-free."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from edgefel.data.framing import Framing
from edgefel.data.labels import check_labels
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.read import native_path
from edgefel.files.write import sha256, write_json
from edgefel.runtime.external_data import refuse_external_data
from edgefel.text import counted, printable

FORMAT = "edgefel-bundle"
VERSION = 1
MANIFEST_NAME = "manifest.json"
# for people: what the network was trained on, and how well it does; a bundle may lack it
CARD_NAME = "model-card.md"
INPUT_NAME = "image"
OUTPUT_NAMES = ("logits", "primary", "probabilities", "confidence", "embedding")
# what labelling a face takes; a bundle may lack the others
NEEDED_OUTPUTS = ("probabilities", "confidence")
INPUT_TYPES = ("float32", "uint8")
KINDS = ("onnx", "engine")
# formats of TensorRT: FP8, and INT8 or INT4 weights beside FP16 activations. Engines are built of these files, and no
# other backend runs them
ENGINE_FORMATS = ("fp8", "w8a16", "w4a16")
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16", *ENGINE_FORMATS)
# Backends that the file of each precision is made for. ONNX Runtime's CPU provider computes FP16 in FP32 around casts,
# and OpenVINO fuses the PReLU and the Q/DQ of the file for TensorRT, not those of the one for ONNX Runtime.
MADE_FOR: Mapping[str, tuple[str, ...]] = {
    "fp32": ("onnxruntime", "openvino", "onnxruntime-cuda", "tensorrt", "onnxruntime-tensorrt"),
    "fp16": ("tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt"),
    "int8": ("onnxruntime",),
    "int8+fp16": ("openvino", "tensorrt", "onnxruntime-tensorrt"),
    **dict.fromkeys(ENGINE_FORMATS, ("tensorrt",)),
}
Verdict = Literal["pass", "warn", "fail"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class ModelInfo:
    """The exported network: registry name, classes, parameter count, GMAC per image, embedding width.

    config: all settings, as `ModelConfig.to_dict` has them; None in older bundles."""

    name: str
    num_classes: int
    parameters: int
    gmac: float
    embedding_dim: int
    config: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        _one_line("model name", self.name)

    def to_dict(self) -> dict[str, Any]:
        """Its entry in the JSON document."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class BundleFile:
    """One model file of the bundle. `parity` holds its comparison with PyTorch and the `verdict` on it,
    `builder` how it was made: of an engine, the TensorRT version and GPU, and the ONNX `source`.
    `requires` says of an ONNX file what runs it (`edgefel.runtime.requirements`), `made_for` which backends it is
    written for; both are missing in older bundles, where the precision says it (`MADE_FOR`)."""

    name: str
    kind: str
    precision: str
    sha256: str
    bytes: int
    parity: Mapping[str, Any] | None = None
    builder: Mapping[str, Any] | None = None
    requires: Mapping[str, Any] | None = None
    made_for: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.made_for is not None:
            object.__setattr__(self, "made_for", tuple(self.made_for))
        if self.name in ("", ".", "..") or set("/\\") & set(self.name):
            raise EdgefelError(f"file name {self.name!r}: a bundle's files lie directly in its folder")
        _one_line("file name", self.name)
        native_path(self.name)
        _one_of(f"{self.name}: kind", self.kind, KINDS)
        _one_of(f"{self.name}: precision", self.precision, PRECISIONS)
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise EdgefelError(f"{self.name}: sha256 {self.sha256!r} is not 64 lower-case hex digits")
        if (verdict := (self.parity or {}).get("verdict")) is not None:
            _one_of(f"{self.name}: verdict", str(verdict), VERDICTS)

    @property
    def verdict(self) -> Verdict | None:
        """What the comparison with PyTorch came to; None where none was made."""
        return cast("Verdict | None", (self.parity or {}).get("verdict"))

    def to_dict(self) -> dict[str, Any]:
        """Its entry in the JSON document; older bundles, and engines, have no `requires` and no `made_for`."""
        values = dataclasses.asdict(self)
        optional = ("requires", "made_for")
        return {name: value for name, value in values.items() if name not in optional or value is not None}

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that it is made for; others may run it too."""
        if self.kind == "engine":
            return ("tensorrt",)
        return MADE_FOR[self.precision] if self.made_for is None else self.made_for


def describe_file(
    path: str | os.PathLike[str],
    *,
    kind: str,
    precision: str,
    parity: Mapping[str, Any] | None = None,
    builder: Mapping[str, Any] | None = None,
    requires: Mapping[str, Any] | None = None,
    made_for: tuple[str, ...] | None = None,
) -> BundleFile:
    """The manifest entry of a file on disk: its name, size and hash with what the caller knows about it."""
    path = Path(path)
    return BundleFile(
        path.name, kind, precision, sha256(path), path.stat().st_size, parity, builder, requires, made_for
    )


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest. `folder` is where it was read from; it is not written.

    labels: class names in the order of the outputs' columns.
    source: {"checkpoint", "sha256"}: what was exported. tools: versions of what exported it.
    input_type: "float32", normalised by the runtime, or "uint8", normalised in the graph.
    outputs: those of OUTPUT_NAMES that the files have, in that order.
    framing: of the faces that the network was trained on; None in older bundles, and where it is not known.
    """

    model: ModelInfo
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    files: tuple[BundleFile, ...]
    source: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default=Path(), compare=False)
    input_type: str = "float32"
    outputs: tuple[str, ...] = OUTPUT_NAMES
    framing: Framing | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", check_labels(self.labels, "labels"))
        object.__setattr__(self, "files", tuple(self.files))
        object.__setattr__(self, "folder", Path(self.folder))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        _one_of("input dtype", self.input_type, INPUT_TYPES)
        _check_outputs(self.outputs)
        if len(self.labels) != self.model.num_classes:
            raise EdgefelError(
                f"{counted(len(self.labels), 'label')} for a model of "
                f"{counted(self.model.num_classes, 'class', 'classes')}"
            )
        names = [file.name for file in self.files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise EdgefelError(f"files: {', '.join(twice)} listed twice")

    @property
    def input_shape(self) -> tuple[str | int, ...]:
        """Of the input `image`: ("N", 3, H, W) as float32, ("N", H, W, 3) as uint8."""
        size = self.preprocessing.output_size
        return ("N", size, size, 3) if self.input_type == "uint8" else ("N", 3, size, size)

    def find(self, precision: str, kind: str = "onnx") -> BundleFile:
        """The bundle's file of that precision and kind; raises EdgefelError listing what there is."""
        for file in self.files:
            if (file.precision, file.kind) == (precision, kind):
                return file
        there = ", ".join(f"{file.precision} ({file.kind})" for file in self.files) or "no files"
        raise EdgefelError(
            f"{self.folder}: no {precision} {kind} file in this bundle; it holds {there}. "
            f"Choose one of these or export again with the precision you need"
        )

    def with_file(self, file: BundleFile) -> Manifest:
        """A copy with `file` added, or put in the place of the one with the same name."""
        kept = [file if old.name == file.name else old for old in self.files]
        return dataclasses.replace(self, files=tuple(kept if file in kept else [*kept, file]))

    def judged(self, file: BundleFile) -> BundleFile:
        """The file whose comparison speaks for `file`: itself, or the ONNX file that an engine was built from."""
        source = (file.builder or {}).get("source")
        if file.parity is not None or source is None:
            return file
        return next((other for other in self.files if other.name == source), file)

    def check_verdict(self, file: BundleFile) -> None:
        """Raises EdgefelError, with the reasons, for a file that failed its comparison with PyTorch."""
        judged = self.judged(file)
        if judged.verdict != "fail":
            return
        reasons = "; ".join(str(reason) for reason in (judged.parity or {}).get("reasons") or ())
        source = "" if judged is file else f" (built from {judged.name})"
        raise EdgefelError(
            f"{self.folder / file.name}{source}: failed its comparison with PyTorch: {reasons or 'no reason given'}. "
            f"Choose another precision, or pass --force (force=True) to use it as it is"
        )

    def verify(self, file: BundleFile, *, force: bool = False) -> Path:
        """Path of the file if its bytes are those the manifest promises, and all there is of it.

        Raises EdgefelError if not; with `force`, only if it is missing, or an ONNX file with tensors in other files.
        """
        path = self.folder / file.name
        if not path.is_file():
            raise EdgefelError(f"{path}: the manifest lists this file, but it is missing; export again")
        if file.kind == "onnx":
            refuse_external_data(path)
        if not force and sha256(path) != file.sha256:
            raise EdgefelError(
                f"{path}: SHA-256 differs from the manifest's; the file was changed or is incomplete. "
                f"Export or copy it again, or pass --force (force=True) to use it as it is"
            )
        return path

    def to_dict(self) -> dict[str, Any]:
        """The JSON document, see docs/runtime.md."""
        framing = {} if self.framing is None else {"framing": self.framing.to_dict()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model.to_dict(),
            "labels": list(self.labels),
            "input": {"name": INPUT_NAME, "dtype": self.input_type, "shape": list(self.input_shape)},
            "outputs": list(self.outputs),
            "preprocessing": self.preprocessing.to_dict(),
            **framing,
            "files": [file.to_dict() for file in self.files],
            "source": dict(self.source),
            "tools": dict(self.tools),
        }


def write_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> Path:
    """Writes `folder`/manifest.json atomically and returns its path."""
    path = Path(folder) / MANIFEST_NAME
    write_json(path, manifest.to_dict())
    return path


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Reads and checks `folder`/manifest.json; raises a one-line EdgefelError naming what is wrong."""
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    native_path(folder)
    if not folder.is_dir():
        raise EdgefelError(f"{folder}: no such folder; give the folder that 'edgefel export' wrote")
    if not path.is_file():
        raise EdgefelError(f"{folder}: no {MANIFEST_NAME} here; give the folder that 'edgefel export' wrote")
    document = read_json(path)
    try:
        return _parse(document, folder)
    except EdgefelError as error:
        raise EdgefelError(f"{path}: {error}; run 'edgefel export' again to get a sound bundle") from None


def is_bundle(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has the manifest of a bundle, sound or not."""
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        return False
    try:
        document = read_json(path)
    except EdgefelError:
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


_Part = TypeVar("_Part", ModelInfo, BundleFile)
# null stands for what may be missing; entries that are not listed are ignored
_FILE = {
    **dict.fromkeys(("name", "kind", "precision", "sha256"), str),
    "bytes": int,
    "parity?": {"verdict?": str, "reasons?": [str]},
    "builder?": {"source?": str, "package?": str, "warnings?": [str], "calibration?": dict},
    "made_for?": [str],
    "requires?": {"ir_version?": int, "opset?": int, "onnxruntime?": str, "openvino?": str, "tensorrt?": str},
}
_SHAPE = {
    "model": {
        **dict.fromkeys(("num_classes", "parameters", "embedding_dim"), int),
        "name": str,
        "gmac": float,
        "config?": dict,
    },
    "labels": [str],
    "input": {"dtype": str},
    "outputs": [str],
    "preprocessing": dict,
    "framing?": dict,
    "files": [_FILE],
    "source": dict,
    "tools": dict,
}


def _parse(document: Any, folder: Path) -> Manifest:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise EdgefelError(f"not a bundle manifest: 'format' is not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise EdgefelError(f"version {document.get('version')!r}, and this edgefel reads version {VERSION}")
    check_shape(document, _SHAPE, "manifest")
    manifest = Manifest(
        model=_built(ModelInfo, document["model"]),
        labels=tuple(document["labels"]),
        preprocessing=Preprocessing.from_dict(document["preprocessing"]),
        files=tuple(_built(BundleFile, entry) for entry in document["files"]),
        source=document["source"],
        tools=document["tools"],
        folder=folder,
        input_type=document["input"]["dtype"],
        outputs=tuple(document["outputs"]),
        framing=None if document.get("framing") is None else Framing.from_dict(document["framing"]),
    )
    expected = manifest.to_dict()["input"]
    if document["input"] != expected:
        raise EdgefelError(f"input is {document['input']!r}, expected {expected!r}")
    return manifest


def _built(cls: type[_Part], values: Mapping[str, Any]) -> _Part:
    """An object of the dataclass, from the values that have the names of its fields."""
    known: dict[str, Any] = {item.name: values.get(item.name) for item in dataclasses.fields(cls)}
    return cls(**known)


def _check_outputs(outputs: tuple[str, ...]) -> None:
    in_order = tuple(name for name in OUTPUT_NAMES if name in outputs)
    if outputs != in_order or set(NEEDED_OUTPUTS) - set(outputs):
        raise EdgefelError(
            f"outputs is {list(outputs)!r}, expected some of {list(OUTPUT_NAMES)!r} in this order, "
            f"{' and '.join(NEEDED_OUTPUTS)} among them"
        )


def _one_line(what: str, name: str) -> None:
    """Names are printed, and written into files of lines."""
    if "\n" in name or printable(name) != name:
        raise EdgefelError(f"{what} {name!r} has a line break or control character in it")


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise EdgefelError(f"{what} is {value!r}; known are {', '.join(known)}")
