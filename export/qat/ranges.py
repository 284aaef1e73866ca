"""Ranges that quantization-aware training leaves in a checkpoint, by site, and their way into another graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgefel.calib.placement import place
from edgefel.calib.sites import Site, activation_sites
from edgefel.errors import EdgefelError
from edgefel.export.precision.precisions import POLICIES, Ranges
from edgefel.files.documents import check_shape
from edgefel.files.write import sha256

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint

ENTRY = "quantization"  # of the checkpoint's `extra`
_SHAPE = {
    "precision": str,
    "learned": bool,
    "calibration": dict,
    "original": {"path": str, "sha256": str},
    "scales": {str: float},
}


def all_sites(graph: onnx.ModelProto) -> dict[str, tuple[Site, ...]]:
    """Activation -> its sites under every policy. graph: FP32, in the form that is quantized."""
    found: dict[str, dict[Site, None]] = {}
    for policy in POLICIES.values():
        for name, sites in activation_sites(graph, place(graph, policy)).items():
            found.setdefault(name, {}).update(dict.fromkeys(sites))
    return {name: tuple(sites) for name, sites in found.items()}


@dataclass(frozen=True)
class TrainedRanges:
    """precision: the file that was trained for. learned: whether the ranges learned too. calibration: the manifest's
    entry on how they were found at first. original: "path", relative to the checkpoint, and "sha256" of the weights
    before. scales: INT8 scale by `str(Site)`, of every policy.
    """

    precision: str
    learned: bool
    calibration: Mapping[str, Any]
    original: Mapping[str, str]
    scales: Mapping[str, float]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TrainedRanges | None:
        """Those of a checkpoint, None if it was not trained for INT8. Raises EdgefelError for a damaged entry."""
        entry = checkpoint.extra.get(ENTRY)
        if entry is None:
            return None
        where = f"{checkpoint.path}: {ENTRY}"
        check_shape(entry, _SHAPE, where)
        ranges = cls(**{name: entry[name] for name in _SHAPE})
        wrong = [site for site, scale in ranges.scales.items() if not (math.isfinite(scale) and scale > 0)]
        if wrong or ranges.precision not in POLICIES:
            what = f"the scale of {wrong[0]} is not a positive number" if wrong else "unknown precision"
            raise EdgefelError(f"{where}: {what}; the checkpoint is damaged: take another one")
        return ranges

    def before(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The network before, of a checkpoint with these ranges; None if it is not where training left it."""
        from edgefel.models.checkpoint import WEIGHTS_FILE, load_checkpoint

        folder = checkpoint.path / self.original["path"]
        if not folder.is_dir() or sha256(folder / WEIGHTS_FILE) != self.original["sha256"]:
            return None
        return load_checkpoint(folder)

    def to_dict(self) -> dict[str, Any]:
        """The entry of the checkpoint's `extra`: float64 holds every float32, and JSON every float64."""
        return asdict(self)

    def scales_of(self, graph: onnx.ModelProto, activations: Iterable[str]) -> dict[str, np.float32]:
        """The scale of each activation of a graph. Raises EdgefelError for one that was not trained."""
        sites = all_sites(graph)
        found: dict[str, np.float32] = {}
        for name in activations:
            known = {self.scales[str(site)] for site in sites.get(name, ()) if str(site) in self.scales}
            if len(known) != 1:
                raise EdgefelError(
                    f"the checkpoint's ranges of {name} are missing or ambiguous: it was trained for INT8 in another "
                    "form; give --calibration to calibrate again"
                )
            found[name] = np.float32(known.pop())
        return found

    def for_export(self, graph: onnx.ModelProto, activations: Iterable[str]) -> Ranges:
        """As an export takes them, with the manifest's entry."""
        entry = {
            **self.calibration,
            "trained": True,
            "trained_for": self.precision,
            "learned": self.learned,
            "ranges": "checkpoint",
        }
        return Ranges(self.scales_of(graph, activations), entry)
