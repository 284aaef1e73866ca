"""Decoding images, sampling epochs, loading batches."""
