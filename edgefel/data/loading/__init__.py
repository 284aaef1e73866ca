"""Sampling epochs and loading batches."""
