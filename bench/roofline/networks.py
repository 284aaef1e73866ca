"""Graphs to count: a registered model's, exported in memory with random weights, or a bundle's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgefel.bench.results import check_names
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.runtime.manifest import MANIFEST_NAME, PRECISIONS, read_manifest

if TYPE_CHECKING:
    import onnx

DEFAULT_PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Graphs:
    """ONNX graphs of one model by precision. parameters: trained numbers of the model."""

    model: str
    parameters: int
    by_precision: Mapping[str, onnx.ModelProto]


def load_graphs(model: str, precisions: Sequence[str] | None = None) -> Graphs:
    """The graphs of a bundle folder, or of a registered model.

    precisions: by default all ONNX files of a bundle, and FP32, FP16 and INT8 of a registered model. Raises
    EdgefelError for an unknown name or precision, a bundle that cannot be read, or one without such a file.
    """
    check_names("precision", precisions, PRECISIONS)
    if Path(model).is_dir():
        return _of_bundle(Path(model), precisions)
    try:
        from edgefel.models.registry import MODELS
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), "train", f"counting the model {model!r}") from None
    if model not in MODELS:
        raise EdgefelError(
            f"{model}: neither a bundle folder (one with {MANIFEST_NAME}) nor a model; "
            f"known models: {', '.join(MODELS)}"
        )
    return _of_model(model, tuple(precisions or DEFAULT_PRECISIONS))


def _of_bundle(folder: Path, precisions: Sequence[str] | None) -> Graphs:
    import onnx

    manifest = read_manifest(folder)
    there = [file.precision for file in manifest.files if file.kind == "onnx"]
    if not there and not precisions:
        raise EdgefelError(f"{folder}: no ONNX file in this bundle; export it again with one")
    paths = {name: manifest.verify(manifest.find(name)) for name in precisions or there}
    graphs = {name: onnx.load(str(path)) for name, path in paths.items()}
    return Graphs(manifest.model.name, manifest.model.parameters, graphs)


def _of_model(name: str, precisions: Sequence[str]) -> Graphs:
    import numpy as np

    from edgefel.export.onnx.trace import export_onnx
    from edgefel.export.precision.graphs import Ranges, make_graphs
    from edgefel.models.profile import profile
    from edgefel.models.registry import build_model

    network = build_model(name).eval()
    anchors = getattr(network.head, "anchors", None)
    made = make_graphs(
        export_onnx(network),
        precisions,
        anchors=None if anchors is None else anchors.detach().float().numpy(),
        # work and bytes do not depend on the scales
        calibrate=lambda graph, activations: Ranges({tensor: np.float32(1) for tensor in activations}, {}),
    )
    return Graphs(name, profile(network.config).parameters, {key: one.model for key, one in made.items()})
