"""From a bundle back to a checkpoint: a network that was shipped can be trained, calibrated and exported again."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgefel.calib.calibration_set import calibration_pool
from edgefel.calib.images import ComparedImages, NoiseImages
from edgefel.calib.reader import readable
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.weights import load_graph_weights, measure_statistics, set_statistics
from edgefel.export.parity.compare import compare
from edgefel.export.parity.gate import onnx_outputs, reference_outputs
from edgefel.export.parity.limits import LIMITS
from edgefel.files.write import check_free
from edgefel.models.config import ModelConfig
from edgefel.models.registry import model_config
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import Manifest, read_manifest
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel

PRECISION = "fp32"
STATISTICS_IMAGES = 1024
FEWEST_IMAGES = 64
COMPARED_IMAGES = 64
NOISE_IMAGES = 16


@dataclass(frozen=True)
class Restored:
    """A bundle's network as it was written to a checkpoint.

    images: how many gave BatchNorm its statistics. norms: BatchNorms that the export had merged into other layers.
    deviation: largest over all outputs and compared images, between the checkpoint and the bundle's FP32 file.
    """

    manifest: Manifest
    preprocessing: Preprocessing
    entries: int
    images: int
    norms: int
    deviation: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        source = f"{counted(self.norms, 'BatchNorm')} with the statistics of {counted(self.images, 'image')}"
        return (source, f"equals the FP32 file to {self.deviation:.1g}")


def restore_checkpoint(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    progress: Progress = SILENT,
) -> Restored:
    """Writes the network of a bundle's FP32 file as the new checkpoint folder `output`.

    Labels, preprocessing and framing are the manifest's. The export merges BatchNorm into other layers: in its place
    comes one that does nothing to images with the statistics of `data` (of the split train, where there is one), so
    that the network computes what the file computes, and nearly the same in training, by the statistics of a batch.
    The result is compared with the file, on images and on noise, within the limits that an FP32 file is held to.

    Raises EdgefelError for a bundle without a sound FP32 file, one whose graph is not that of the network it names, no
    or too few images, a network that then differs from the file, and a folder that is in use.
    """
    from edgefel.models.checkpoint import save_checkpoint

    check_free(Path(output))
    manifest = read_manifest(bundle)
    entry = manifest.find(PRECISION)
    file = manifest.verify(entry)
    model, own, identities = _network(manifest, file)
    if data is None:
        raise EdgefelError(
            f"{file}: BatchNorm is merged into other layers; give images like those it was trained on, which training "
            "needs the statistics of, with --data"
        )
    crops, source = _images(data, own, progress)
    progress.start("measure BatchNorm", len(crops))
    _set_statistics(model, identities, crops, own, progress)
    deviation = _compare(manifest, file, model, own, crops)
    extra = {
        "source": {
            "layout": "bundle",
            "files": [{"file": entry.name, "sha256": entry.sha256}],
            "checkpoint": dict(manifest.source),
            "statistics": {"images": source, "count": len(crops)},
            "notes": [],
        }
    }
    save_checkpoint(Path(output), model, manifest.labels, own.to_dict(), extra, manifest.framing)
    return Restored(manifest, own, len(model.state_dict()), len(crops), len(identities), deviation)


def _network(manifest: Manifest, file: Path) -> tuple[FacialExpressionModel, Preprocessing, tuple[str, ...]]:
    """The network with the file's weights, its preprocessing, and its merged BatchNorms."""
    from edgefel.models.network import FacialExpressionModel

    # exported at half the size, the file's preprocessing takes every second pixel, as the network does itself
    own = dataclasses.replace(manifest.preprocessing, stride=1)
    try:
        config = _config(manifest, own.output_size)
    except EdgefelError as error:
        raise EdgefelError(
            f"{manifest.folder}: its manifest describes no network of edgefel ({error})"
        ) from None
    try:
        graph = onnx.load(file)
    except Exception as error:  # protobuf's exception has no public base
        raise EdgefelError(f"{file}: cannot be read as ONNX ({type(error).__name__})") from None
    model = FacialExpressionModel(config, "reference").eval()
    try:
        identities = load_graph_weights(model, graph)
    except (EdgefelError, ValueError) as error:  # ValueError: a subgraph
        raise EdgefelError(
            f"{file}: is not the graph of {config.name} as edgefel exports it: {error}; a bundle made with "
            "--attention plugin, or of changed settings by an older edgefel, cannot be restored"
        ) from None
    return model, own, identities


def _config(manifest: Manifest, size: int) -> ModelConfig:
    """Of the manifest; an older one has none, and the network is then taken for the registered one."""
    model = manifest.model
    if model.config is not None:
        return ModelConfig.from_dict(dict(model.config))
    config = model_config(model.name, num_classes=model.num_classes)
    return (
        config
        if config.input_size == size
        else model_config(model.name, num_classes=model.num_classes, input_size=size)
    )


def _images(
    data: str | os.PathLike[str], own: Preprocessing, progress: Progress
) -> tuple[ComparedImages, str]:
    """Images of the split train, resized, and the name of the data set."""
    dataset = open_dataset(data)
    pool = np.random.default_rng(0).permutation(np.asarray(calibration_pool(dataset)))[:STATISTICS_IMAGES]
    progress.start("load images", len(pool))
    crops = []
    skipped: list[Path] = []
    for _, image in readable(dataset, np.sort(pool).tolist(), skipped):
        crops.append(own.resize_image(image))
        progress.advance()
    if len(crops) < FEWEST_IMAGES:
        raise EdgefelError(
            f"{data}: has {counted(len(crops), 'readable image')} to measure statistics on, which takes "
            f"{FEWEST_IMAGES}; give more"
        )
    return ComparedImages(
        tuple(crops), None, dataset.source, tuple(path.name for path in skipped)
    ), dataset.source


def _set_statistics(
    model: FacialExpressionModel,
    names: tuple[str, ...],
    images: ComparedImages,
    own: Preprocessing,
    progress: Progress,
) -> None:
    import torch

    def batches() -> Any:
        for batch in images.batches(own):
            yield torch.from_numpy(batch)
            progress.advance(len(batch))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        for name, statistics in measure_statistics(model, names, batches()).items():
            set_statistics(model.get_submodule(name), *statistics)


def _compare(
    manifest: Manifest, file: Path, model: FacialExpressionModel, own: Preprocessing, images: ComparedImages
) -> float:
    """The largest deviation from the file, on images and on noise. Raises EdgefelError beyond the limit of FP32."""
    noise = NoiseImages(manifest.labels, NOISE_IMAGES, own.resize, seed=0)
    crops = images.spread(COMPARED_IMAGES).crops + tuple(map(noise.load, range(NOISE_IMAGES)))
    compared = ComparedImages(crops, None, images.source)
    reference = reference_outputs(model, compared.batches(own))
    actual = onnx_outputs(
        file, compared.batches(manifest.preprocessing, manifest.input_type), outputs=manifest.outputs
    )
    parity = compare(reference, actual, LIMITS[PRECISION], outputs=manifest.outputs)
    if parity.verdict == "fail" or parity.largest_deviation is None:
        raise EdgefelError(
            f"{file}: the network of its weights computes something else ({'; '.join(parity.reasons)}): its settings "
            f"are not those of {manifest.model.name}, which this manifest does not record; export the checkpoint again"
        )
    return parity.largest_deviation
