"""Flags of `edgefel train` for nano networks with one block per stage, which take half as long to export."""

from __future__ import annotations

PYRAMID = [
    f"--model-set=encoder.{part}" for part in ("image_units=[1,1,1]", "landmark_units=[1,1,1]", "depth=1")
]
APVIT = [f"--model-set=encoder.{part}" for part in ("image_units=[1,1,1]", "keep_rates=[1.0,0.9]")]
