"""Softmax over negative distances to labelled anchors, summed per class."""
