"""Everything behind the head's matrix products: softmaxes, confidences and weighted means."""

from edgefel.kernels.reliability_balance.reference import (
    Balanced,
    confidence,
    correction,
    reliability_balance,
    weighted_mean,
)

__all__ = ["Balanced", "confidence", "correction", "reliability_balance", "weighted_mean"]
