"""What the tests of the calibration comparison compare."""

from __future__ import annotations

from edgefel.bench.experiments.calibration.comparison import ComparisonOptions
from edgefel.data.preprocessing import default_preprocessing

OPTIONS = ComparisonOptions(per_class=(1, 2), seeds=2, imbalance=4, method="minmax")
PREPROCESSING = default_preprocessing(112)
