"""Softmax over negative distances to labelled anchors, summed per class."""

from edgefel.kernels.anchor_softmax.reference import anchor_distances, anchor_softmax

__all__ = ["anchor_distances", "anchor_softmax"]
