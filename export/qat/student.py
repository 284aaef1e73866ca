"""A network that learns to say in INT8 what it says in FP32 (quantization-aware training by self-distillation)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from edgefel.calib.graph import GraphIndex, node_scope
from edgefel.calib.images import choose_images
from edgefel.calib.placement import Placement, place
from edgefel.calib.reader import CalibrationReader
from edgefel.calib.sites import Site, activation_sites
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import export_onnx
from edgefel.export.options import ExportOptions
from edgefel.export.precision.precisions import POLICIES, calibrate_ranges
from edgefel.export.qat.capture import Captured
from edgefel.export.qat.ranges import ENTRY, TrainedRanges, all_sites
from edgefel.files.write import sha256
from edgefel.models.checkpoint import WEIGHTS_FILE, Checkpoint, save_checkpoint
from edgefel.models.network import FacialExpressionModel
from edgefel.models.reliability import Prediction
from edgefel.progress import SILENT, Progress
from edgefel.training.config import TrainConfig
from edgefel.training.losses import SelfDistillationLoss
from edgefel.training.model import Student, SupervisedModel
from edgefel.training.run_folder import ORIGINAL_NAME


class Scales(nn.Module):
    """The scales of A activations [A]: constants, or if `learn`, `base * exp(delta)` with delta learnt from 0."""

    def __init__(self, base: Tensor, learn: bool) -> None:
        super().__init__()
        self.register_buffer("base", base)
        self.delta = nn.Parameter(torch.zeros_like(base)) if learn else None

    def forward(self) -> Tensor:
        base = self.get_buffer("base")
        return base if self.delta is None else base * self.delta.exp()


class QuantizedModel(SupervisedModel):
    """`model` in evaluation mode with fake quantizers, which learns from `original`, the network before.

    sites: of the activations whose scales `ranges` gives, in order, under every policy. known: the ranges by site.
    """

    def __init__(
        self,
        model: FacialExpressionModel,
        quantized: fx.GraphModule,
        ranges: Scales,
        sites: Mapping[str, tuple[Site, ...]],
        known: TrainedRanges,
        original: Checkpoint,
    ) -> None:
        super().__init__(model, supervised=False)
        self.ranges, self.sites, self.known, self.original = ranges, sites, known, original
        # no submodules: their weights are the model's, or learn nothing
        self._quantized = (quantized,)
        self._teacher = (original.model.eval().requires_grad_(False),)

    @property
    def judged(self) -> nn.Module:
        return self._quantized[0]

    def train(self, mode: bool = True) -> QuantizedModel:
        """Statistics of BatchNorm stay, and nothing is dropped: the device's network learns."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, image: Tensor, ramp: Tensor | float = 1.0) -> tuple[Prediction, Any]:
        """The predictions in INT8 and of the network before."""
        with torch.no_grad():
            target = self._teacher[0](image)
        return self._quantized[0](image), target

    def keep_in(self, run: Path) -> None:
        """Stores the network before: a resumed run learns from it, and an export compares with it."""
        kept, before = run / ORIGINAL_NAME, self.original
        if not kept.is_dir():
            save_checkpoint(
                kept, before.model, before.labels, before.preprocessing, before.extra, before.framing
            )

    def described(self) -> dict[str, Any]:
        """The ranges, for `TrainedRanges.of`."""
        scales = dict(self.known.scales)
        for sites, scale in zip(self.sites.values(), self.ranges().tolist(), strict=True):
            scales |= {str(site): scale for site in sites}
        return {ENTRY: dataclasses.replace(self.known, scales=scales).to_dict()}


def quantize(
    config: TrainConfig,
    original: Checkpoint,
    resumed: Checkpoint | None,
    device: torch.device,
    *,
    progress: Progress = SILENT,
) -> Student:
    """What learns in a run with `config.qat`.

    original: the network before. resumed: the run's last checkpoint, whose weights and ranges go on; None for a new
    run, which calibrates on images of the split train.

    Raises EdgefelError where the exported graph and PyTorch's do not correspond, and as a calibration does.
    """
    progress.start("trace for INT8")
    model = copy.deepcopy(original.model) if resumed is None else resumed.model
    model = model.to(device).eval().use_attention("reference")
    captured = Captured(model)
    captured.absorb_batch_norms()
    graph, _ = spread_prelu(export_onnx(model))
    placement = place(graph, POLICIES[config.qat_for])
    check_weights_match(graph, placement, model)
    known = None if resumed is None else TrainedRanges.of(resumed)
    if known is None:
        known = _calibrated(config, original, graph, progress)
    sites, every = activation_sites(graph, placement), all_sites(graph)
    scales = known.scales_of(graph, sites)
    ranges = Scales(torch.from_numpy(np.array(list(scales.values()), np.float32)), config.qat_learn_ranges)
    quantized = captured.quantize(sites, ranges.to(device))
    captured.thin_shortcuts()
    original.model.to(device)
    of_each = {name: every[name] for name in sites}
    student = QuantizedModel(model, quantized, ranges, of_each, known, original)
    return Student(student, SelfDistillationLoss())


def check_weights_match(graph: onnx.ModelProto, placement: Placement, model: nn.Module) -> None:
    """Raises EdgefelError for an INT8 layer of the graph whose weights are not the module's to the bit."""
    index = GraphIndex(graph.graph)
    nodes = index.nodes
    for name in placement.nodes:
        module, constant = node_scope(nodes[name]), nodes[name].input[1]
        value = numpy_helper.to_array(index.initializers[constant])
        own = model.get_parameter(f"{module}.weight").detach().cpu().numpy()
        if not np.array_equal(value if placement.weights[constant] == 0 else value.T, own):
            raise EdgefelError(
                f"{module}: the export changes its weights, so that training could not know their INT8 values; this "
                "network cannot be trained for INT8"
            )


def _calibrated(
    config: TrainConfig, original: Checkpoint, graph: onnx.ModelProto, progress: Progress
) -> TrainedRanges:
    """Ranges of every policy's activations, as `edgefel export --data` finds them."""
    defaults, seed = ExportOptions(), config.seed
    per_class, cap = defaults.per_class, defaults.group_cap
    preprocessing = Preprocessing.from_dict(original.preprocessing)
    layout = config.full_layout
    images = choose_images(
        config.data,
        original.labels,
        calibrate=True,
        per_class=per_class,
        group_cap=cap,
        seed=seed,
        layout=layout,
    )
    chosen, dataset, indices = images.record(per_class, cap, seed, preprocessing, layout)
    reader = CalibrationReader(dataset, indices, preprocessing)
    key = None if chosen is None else chosen.key()
    method: Any = config.qat_calibration or defaults.method
    sites = all_sites(graph)
    source = {**images.sources["calibration"], "key": key}
    found = calibrate_ranges(graph, list(sites), reader, method, source, len(original.labels), key, progress)
    scales = {str(site): float(found.scales[name]) for name, own in sites.items() for site in own}
    weights = {
        "path": f"../../{ORIGINAL_NAME}",  # from RUN/checkpoints/step-N
        "sha256": sha256(original.path / WEIGHTS_FILE),
    }
    return TrainedRanges(config.qat_for, config.qat_learn_ranges, found.entry, weights, scales)
