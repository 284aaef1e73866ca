"""Attention within windows, with a learned bias per relative position."""

from edgefel.kernels.window_cross_attention.reference import relative_position_bias, window_cross_attention

__all__ = ["relative_position_bias", "window_cross_attention"]
