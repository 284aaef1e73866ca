"""Attention within windows, with a learned bias per relative position."""
