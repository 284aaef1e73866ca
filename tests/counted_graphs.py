"""The committed small network in every precision; all scales are 1, which changes nothing of what is counted."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx

from edgefel.bench.roofline.graph import COUNTED
from edgefel.export.precision.precisions import Ranges, make_graphs

BUNDLE = Path(__file__).parent / "bundles" / "nano-synthetic"


@functools.cache
def nano_graphs() -> dict[str, onnx.ModelProto]:
    """Precision -> graph. Shared: copy one before changing it."""
    made = make_graphs(
        onnx.load(str(BUNDLE / "model.fp32.onnx")),
        COUNTED,
        anchors=None,
        calibrate=lambda graph, activations, *_: Ranges(dict.fromkeys(activations, np.float32(1)), {}),
    )
    return {name: one.model for name, one in made.items()}
